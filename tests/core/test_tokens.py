"""Access tokens: only ours, only in time, only until the session ends."""

from __future__ import annotations

import base64
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from core.actions import Principal
from core.clock import ManualClock
from core.crypto.keyring import open_keyring
from core.crypto.ring import TOKENS
from core.errors import Unauthenticated
from core.keys import keep
from core.settings import Settings
from core.tokens import AccessTokens, Revocations
from tests.world import settings_for

WHO = Principal(5, 6, frozenset({"employee", "boss"}), 7, "phone", 1 << 50)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for("postgresql://x", tmp_path)


def test_what_is_signed_is_verified_until_it_expires(settings: Settings) -> None:
    clock = ManualClock()
    tokens = AccessTokens(settings, clock)
    token, expires_ms = tokens.sign(WHO)
    assert expires_ms - clock.now_ms() == 600_000
    read = tokens.verify(token)
    assert (read.person_id, read.enterprise_id, read.roles, read.session_id, read.device) == (
        5,
        6,
        WHO.roles,
        7,
        "phone",
    )
    assert AccessTokens(settings, clock, private=False).verify(token) == read
    clock.advance(600_000)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            tokens.verify(token)


def test_a_token_never_outlives_its_session(settings: Settings) -> None:
    clock = ManualClock()
    ends = clock.now_ms() + 5_000
    _, expires_ms = AccessTokens(settings, clock).sign(Principal(5, 6, WHO.roles, 7, "phone", ends))
    assert expires_ms == ends


def test_tokens_of_others_are_refused(settings: Settings) -> None:
    clock = ManualClock()
    tokens = AccessTokens(settings, clock)
    good, _ = tokens.sign(WHO)
    head, body, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    kid = json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]
    private = ECKey.import_key(json.loads(open_keyring(settings, clock).current(TOKENS).material))
    stranger = ECKey.generate_key("P-256")
    public = OctKey.import_key(json.dumps(tokens.jwks()["keys"][0]).encode())

    def made(changes: dict[str, object], key: ECKey = private, typ: str = "at+jwt", kid: str = kid) -> str:
        header = {"alg": "ES256", "typ": typ, "kid": kid}
        return jwt.encode(header, claims | changes, key, algorithms=["ES256"])

    assert tokens.verify(made({})).person_id == 5
    bad = {
        "another key": made({}, stranger),
        "another key's id": made({}, kid="x"),
        "the next key's id": made({}, kid="tokens.2"),
        "a key for something else": made({}, kid="columns.1"),
        "a key that is not there": made({}, kid="tokens.99"),
        "a key without a number": made({}, kid="tokens.²"),
        "confused algorithm": jwt.encode({"alg": "HS256", "typ": "at+jwt", "kid": kid}, claims, public),
        "unsigned": f"{base64.urlsafe_b64encode(json.dumps({'alg': 'none', 'kid': kid}).encode()).decode()}.{body}.",
        "changed": f"{head}.{body[:-4]}AAAA.{signature}",
        "another type": made({}, typ="service+jwt"),
        "another audience": made({"aud": "elsewhere"}),
        "another issuer": made({"iss": "elsewhere"}),
        "a service's role": made({"roles": ["service"]}),
        "an unknown role": made({"roles": ["root"]}),
        "no person": made({"sub": None}),
        "no expiry": made({"exp": None}),
        "empty": "",
        "dots": "..",
        "not base64": "!.!.!",
        "not a map": "W10.W10.x",
        "surrogates": "\ud800",
        "long": good + "x" * 5000,
    }
    for why, token in bad.items():
        with pytest.raises(Unauthenticated):
            tokens.verify(token)
            pytest.fail(why)


def test_an_ended_session_ends_its_tokens(settings: Settings) -> None:
    clock = ManualClock()
    tokens = AccessTokens(settings, clock)
    token, _ = tokens.sign(WHO)
    tokens.verify(token)
    tokens.revocations.end_session(99)
    tokens.verify(token)
    tokens.revocations.end_session(7)
    with pytest.raises(Unauthenticated):
        tokens.verify(token)


def test_an_ended_membership_ends_tokens_made_before(settings: Settings) -> None:
    clock = ManualClock()
    tokens = AccessTokens(settings, clock)
    before, _ = tokens.sign(WHO)
    tokens.revocations.end_membership(5, 6)
    clock.advance(1)
    after, _ = tokens.sign(WHO)
    with pytest.raises(Unauthenticated):
        tokens.verify(before)
    assert tokens.verify(after).person_id == 5


def test_revocations_are_forgotten_after_a_tokens_life() -> None:
    clock = ManualClock()
    revocations = Revocations(clock, keep_s=660)
    for session_id in range(1000):
        clock.advance(10_000)
        revocations.end_session(session_id)
    assert len(revocations._ended) <= 68


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "x"
    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(lambda n: keep(path, lambda: b"%d" % n), range(64)))
    assert len(set(kept)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["x"]
