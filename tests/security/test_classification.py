"""Every column and every field has a class, and what the class promises about its shape (D01, A04)."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from core.actions import EVENTS, INTERNAL
from core.classification import C1_NAMES, C2_NAMES, C3_NAMES, SCOPED, Class, classify
from core.db.metadata import metadata
from core.logs import sensitive
from core.migrations.make import import_schemas
from gateway.privacy import rules
from house import compose

pytestmark = pytest.mark.requirement("D01")

import_schemas()
ACTIONS = compose.actions()
COLUMNS = [(table.name, column) for table in metadata.tables.values() for column in table.columns]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models(field.annotation)
    for inner in typing.get_args(annotation):
        yield from _models(inner)


COMMANDS = list(dict.fromkeys(m for a in ACTIONS for m in _models(a.command)))
RESULTS = list(dict.fromkeys(m for a in ACTIONS for m in _models(a.command.result._type)))
HAPPENINGS = [
    e for e in EVENTS.values() if not e.__module__.startswith("tests.")
]  # other tests may be here, too
EVERYTHING = list(dict.fromkeys([*COMMANDS, *RESULTS, *(m for e in HAPPENINGS for m in _models(e))]))

ISSUED = {
    "AccessToken",
    "LoggedIn",
    "AskedCode",  # what the code on its way is good with
    "NewInvitation",
    "NewWebhook",
    "WebhookSecret",
    "AppSecret",
    "RegisteredApp",
    "Shown",  # of the authorization server to its own pages
    "NewTotp",  # a secret for an authenticator, once
    "RecoveryCodes",
    "SignedIn",  # an authorization code, in the address of the app it is for
}
"""Results whose very purpose is to hand something secret to its owner, once."""

CARRIED = {
    "CheckBridge.bridge_token": "a bridge token that an app shows us to be looked at",
    "Open.cookie": "from our own page handler to our own action; never from outside",
    "Proceed.cookie": "from our own page handler",
    "Leave.cookie": "from our own page handler",
    "Proceed.sealed": "encrypted by us",
    "Proof.secret": "from our own endpoint handler",
    "Introspect.token": "from our own endpoint handler",
    "Revoke.token": "from our own endpoint handler",
    "UserInfo.token": "from our own endpoint handler",
    "BeginBridge.token": "from our own endpoint handler",
}
"""Secrets in commands that are plain text, and why."""


def test_every_column_has_a_class() -> None:
    untagged = [f"{table}.{column.name}" for table, column in COLUMNS if classify(table, column.name) is None]
    assert untagged == [], "say in core/classification.py how much harm these do"


def test_every_field_has_a_class() -> None:
    untagged = [
        f"{model.__name__}.{name}"
        for model in EVERYTHING
        for name in model.model_fields
        if classify(model.__name__, name) is None
    ]
    assert untagged == [], "say in core/classification.py how much harm these do"


def test_a_name_that_nobody_tagged_is_refused() -> None:
    assert classify("gateway_people", "favourite_colour") is None
    assert classify("gateway_people", "favourite_id") is Class.C1


def test_a_name_has_one_class() -> None:
    assert not C1_NAMES & C2_NAMES
    assert not C2_NAMES & C3_NAMES
    assert not C1_NAMES & C3_NAMES


def test_the_table_says_nothing_of_what_is_not_there() -> None:
    there = {column.name for _, column in COLUMNS} | {n for m in EVERYTHING for n in m.model_fields}
    aliases = {"id_token", "peer", "data"}  # of the wire
    assert (C1_NAMES | C2_NAMES | C3_NAMES) - there - aliases == set()
    owners = {f"{table}.{column.name}" for table, column in COLUMNS}
    owners |= {f"{m.__name__}.{n}" for m in EVERYTHING for n in m.model_fields}
    assert set(SCOPED) <= owners


def test_secrets_are_stored_as_digests_or_sealed() -> None:
    for table, column in COLUMNS:
        if classify(table, column.name) is Class.C3:
            assert column.name.endswith(("_hash", "_digest", "_sealed")), f"{table}.{column.name}"


def test_secrets_in_commands_never_print() -> None:
    """They are `Secret`: audit digests, logs and prints see ***."""
    for model in COMMANDS:
        for name, field in model.model_fields.items():
            where = f"{model.__name__}.{name}"
            if classify(model.__name__, name) is Class.C3 and where not in CARRIED:
                assert SecretStr in _flat(field.annotation), where


def test_secrets_are_given_to_their_owner_only() -> None:
    for action in ACTIONS:
        if action.needs is INTERNAL:
            continue
        for model in _models(action.command.result._type):
            secret = [n for n in model.model_fields if classify(model.__name__, n) is Class.C3]
            assert not secret or model.__name__ in ISSUED, f"{model.__name__}: {secret}"


def test_what_is_not_c1_is_blank_in_logs() -> None:
    for name in C2_NAMES | C3_NAMES:
        assert sensitive(name), name


def test_every_table_about_people_is_forgotten_or_kept_for_a_reason() -> None:
    about = {table for table, column in COLUMNS if column.name == "person_id"}
    assert about <= rules.CLEARED | set(rules.KEPT), "say in gateway/privacy what erasure does to these"
    assert not rules.CLEARED & set(rules.KEPT)
    gateways = {table for table in about if table.startswith("gateway_")}
    not_copied = {
        "gateway_app_browsers",
        "gateway_app_families",
        "gateway_privacy_tasks",
        "gateway_reasons",
    } | {
        "gateway_login_tickets",
        "gateway_recovery_codes",
        "gateway_totp",  # secrets: C3 is not copied
    }
    assert gateways - rules.COPIED == not_copied, "a copy of one's data has these too, or say why not"


def _flat(annotation: Any) -> set[Any]:
    found = {annotation}
    for inner in typing.get_args(annotation):
        found |= _flat(inner)
    return found
