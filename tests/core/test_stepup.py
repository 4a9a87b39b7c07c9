"""What a step-up is about: the canonical form, what a signature covers, who may spend what was proved."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.actions import Command, Id, Secret
from core.clock import ManualClock
from core.crypto.keyring import Keyring
from core.crypto.sm4 import NotAuthentic
from core.db.registry import STATEMENTS
from core.errors import Internal
from core.rng import SeededRng
from core.stepup import rules, store
from core.stepup.evidence import Evidence, seal, unseal
from tests.device import Device

assert store.__name__  # its statements are walked


class Pay(Command[None], action="toy.money.pay"):
    """Money to somebody."""

    payee_id: Id
    amount_fen: int
    words: str
    password: Secret


def challenge(number: int) -> rules.Challenge:
    return rules.Challenge(number, 2, 3, 4, "toy.money.pay", b"n" * 16, 1_800_000_000_000, 1_800_000_300_000)


def message(number: int) -> bytes:
    command = Pay.model_validate(
        {"payee_id": str(number), "amount_fen": number * 7, "words": f"货款 {number}", "password": "horse"}
    )
    fields = rules.fields_of(command, b"secret", b"n" * 16)
    return challenge(number).message(fields, [f"付款 {number * 7} 分", f"给 {number}"])


@pytest.mark.requirement("T01")
@pytest.mark.parametrize(("algorithm", "commands"), [("ES256", 180), ("SM2", 20)])
def test_any_changed_byte_of_a_signed_command_is_refused(algorithm: str, commands: int) -> None:
    """Every byte of 200 signed messages and of their signatures, each changed in one bit and in all."""
    device, changed = Device(algorithm), 0
    for number in range(commands):
        text = message(number)
        signature = device.sign(text)
        assert device.key.verify(text, signature)
        # a signature is of the digest: bytes are told apart by it, and one verification for each message proves it
        digests = {rules.digest(text)}
        for place in range(len(text)):
            for bits in (1, 0xFF):
                mutant = bytearray(text)
                mutant[place] ^= bits
                digests.add(rules.digest(bytes(mutant)))
                changed += 1
        assert len(digests) == 1 + 2 * len(text)
        for place in range(number % 7, len(text), 97):
            mutant = bytearray(text)
            mutant[place] ^= 1
            assert not device.key.verify(bytes(mutant), signature)
        for place in range(number % 5, len(signature), 13):
            mutant = bytearray(signature)
            mutant[place] ^= 1
            assert not device.key.verify(text, bytes(mutant))
    assert changed > commands * 600


@pytest.mark.requirement("T01")
@pytest.mark.parametrize("algorithm", ["ES256", "SM2"])
def test_every_byte_of_one_is_verified(algorithm: str) -> None:
    device, text = Device(algorithm), message(1)
    signature = device.sign(text)
    for place in range(len(text)):
        mutant = bytearray(text)
        mutant[place] ^= 1 << place % 8
        assert not device.key.verify(bytes(mutant), signature), place
    for place in range(len(signature)):
        mutant = bytearray(signature)
        mutant[place] ^= 1 << place % 8
        assert not device.key.verify(text, bytes(mutant)), place
    assert not Device(algorithm).key.verify(text, signature), "another device's"


@pytest.mark.requirement("T01")
def test_what_is_signed_holds_what_was_seen_and_no_secret() -> None:
    said = orjson.loads(message(5))
    assert said["lines"] == ["付款 35 分", "给 5"]
    assert said["command"]["payee_id"] == "5"
    assert said["command"]["amount_fen"] == 35
    assert (said["person"], said["session"], said["enterprise"]) == ("3", "4", "2")
    assert said["expires_ms"] == 1_800_000_300_000
    assert b"horse" not in message(5)
    pay = Pay.model_validate({"payee_id": 1, "amount_fen": 1, "words": "", "password": "horse"})
    one, other = (rules.fields_of(pay, b"secret", nonce)["password"] for nonce in (b"1" * 16, b"2" * 16))
    assert one != other, "the same secret is another digest in another challenge"


def test_the_canonical_form() -> None:
    """RFC 8785: names in the order of their UTF-16 units, no space, only what has to be escaped is."""
    value = {"€": '\u20ac$\u000f\nA\'B"\\\\"/', "\r": 1, "😀": True, "\ufb33": None, "1": [2, -1]}
    assert rules.canonical(value) == (
        '{"\\r":1,"1":[2,-1],"€":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/","😀":true,"\ufb33":null}'.encode()
    )
    for wrong in (0.5, 1 << 53, {1: 2}, b"x", float("nan")):
        with pytest.raises(Internal):
            rules.canonical({"a": wrong})


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_json, _json)
def test_equal_values_and_only_they_have_equal_forms(one: Any, other: Any) -> None:
    form = rules.canonical(one)
    assert orjson.loads(form) == one
    assert (form == rules.canonical(other)) == (
        orjson.dumps(one, option=32) == orjson.dumps(other, option=32)
    )


# --- spending ---------------------------------------------------------------------------------------------------------

KEPT = rules.Kept(2, 3, 4, "toy.money.pay", b"n" * 16, b"d" * 32, 1_000, proven=True, spent=False)
ASKED: dict[str, Any] = {
    "enterprise_id": 2,
    "person_id": 3,
    "session_id": 4,
    "action": "toy.money.pay",
    "asked": b"d" * 32,
    "now_ms": 999,
}


@pytest.mark.requirement("T04")
def test_a_challenge_lets_exactly_its_own_call_through() -> None:
    assert rules.may_spend(KEPT, **ASKED)
    for change in (
        {"enterprise_id": 9},
        {"person_id": 9},
        {"session_id": 9},
        {"action": "toy.money.give"},
        {"asked": b"e" * 32},
        {"now_ms": 1_000},
    ):
        assert not rules.may_spend(KEPT, **(ASKED | change)), change
    assert not rules.may_spend(replace(KEPT, proven=False), **ASKED)
    assert not rules.may_spend(replace(KEPT, spent=True), **ASKED)


# --- evidence ---------------------------------------------------------------------------------------------------------


def evidence(device: Device | None) -> Evidence:
    text = message(7)
    return Evidence(
        7,
        2,
        3,
        "toy.money.pay",
        "SMS" if device is None else device.algorithm,
        None if device is None else device.key.point,
        None if device is None else device.sign(text),
        text,
        datetime(2026, 11, 1, tzinfo=UTC),
    )


@pytest.mark.requirement("T03")
@pytest.mark.parametrize("algorithm", ["ES256", "SM2"])
def test_evidence_verifies_by_itself(algorithm: str) -> None:
    device = Device(algorithm)
    found = evidence(device)
    assert found.holds()
    assert not replace(found, message=found.message.replace(b"49", b"94")).holds()
    assert not replace(found, point=Device(algorithm).key.point).holds()
    assert not replace(found, point=b"\x04" + bytes(64)).holds()
    assert not replace(found, signature=None).holds()
    assert not replace(found, algorithm="SM2" if algorithm == "ES256" else "ES256").holds()


@pytest.mark.requirement("T03")
def test_a_row_of_evidence_is_sealed_with_everything_in_it(tmp_path: Path) -> None:
    keys, rng = Keyring(tmp_path / "ring.json", ManualClock(0)), SeededRng(1)
    for found in (evidence(None), evidence(Device())):
        version, sealed = seal(keys, rng, found.message, found.place())
        assert unseal(keys, version, sealed, found.place()) == found.message
        assert b"command" not in sealed
        for forged in (
            replace(found, person_id=8),
            replace(found, enterprise_id=8),
            replace(found, action="x"),
            replace(found, algorithm="TOTP"),
            replace(found, proven_at=datetime(2026, 11, 2, tzinfo=UTC)),
            replace(found, challenge_id=8),
        ):
            with pytest.raises(NotAuthentic):
                unseal(keys, version, sealed, forged.place())
        with pytest.raises(NotAuthentic):
            unseal(keys, version, sealed[:5], found.place())


@pytest.mark.requirement("T03")
def test_nothing_changes_or_removes_evidence() -> None:
    touching = [one.text for one in STATEMENTS if "core_evidence" in one.text]
    assert len(touching) >= 2
    assert all(text.startswith(("INSERT", "SELECT")) for text in touching), touching
