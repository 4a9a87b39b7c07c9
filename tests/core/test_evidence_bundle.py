"""Evidence in a file: verified offline against the bank's public keys, and every changed byte is found (T03)."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.crypto import sm2
from core.errors import Invalid
from core.stepup import bundle
from core.stepup.evidence import Evidence
from core.stepup.rules import Challenge
from house.verify import evidence_bundle
from tests.device import Device

pytestmark = pytest.mark.requirement("T03")

AT = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
KEY = sm2.generate()
ANCHOR = {"seals.1": sm2.generate().point, "seals.2": KEY.point}
ROOT = Path(__file__).resolve().parents[2]


def piece(number: int, algorithm: str) -> Evidence:
    issued_ms = int(AT.timestamp() * 1000) - 60_000
    challenge = Challenge(
        number, 7, 70 + number, 1, "gateway.access.create_role", b"n" * 16, issued_ms, issued_ms + 300_000
    )
    message = challenge.message({"name": "前台"}, ["新建角色“前台”"])
    if algorithm == "SMS":
        return Evidence(number, 7, 70 + number, challenge.action, "SMS", None, None, message, AT)
    device = Device(algorithm)
    point, signature = device.key.point, device.sign(message)
    return Evidence(number, 7, 70 + number, challenge.action, algorithm, point, signature, message, AT)


PIECES = [piece(1, "ES256"), piece(2, "SM2"), piece(3, "SMS")]


def made(pieces: list[Evidence] = PIECES, **changes: Any) -> bytes:
    document = bundle.unsealed(pieces, AT + timedelta(days=1), "seals.2", KEY.point) | changes
    return bundle.sealed(document, sm2.sign(KEY, bundle.statement(document)))


def resealed(change: Any) -> bytes:
    """A bundle that the bank itself would have sealed with something wrong inside."""
    document = bundle.unsealed(PIECES, AT, "seals.2", KEY.point)
    change(document["evidence"][0])
    return bundle.sealed(document, sm2.sign(KEY, bundle.statement(document)))


def test_what_was_exported_is_what_is_verified() -> None:
    assert bundle.verify(made(), ANCHOR) == PIECES
    assert bundle.verify(made([]), ANCHOR) == []
    assert bundle.read_anchor(bundle.anchor(ANCHOR)) == ANCHOR


def test_every_flipped_byte_is_found() -> None:
    data = made()
    random = Random(3)
    for at in range(len(data)):
        for flip in {1, 0x20, random.randrange(1, 256)}:
            bad = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            with pytest.raises(Invalid):
                bundle.verify(bad, ANCHOR)


def test_nothing_is_left_out_added_or_written_in_another_way() -> None:
    data = made()
    document = json.loads(data)
    for bad in (
        data[:-1],
        data + b"\n",
        b" " + data,
        json.dumps(document).encode(),
        data.decode().encode("utf-16"),
        data.replace(b'{"', b'{"version":"bankhub.evidence.1","', 1),
        bundle.sealed(document | {"evidence": document["evidence"][:2]}, bytes.fromhex(document["seal"])),
        bundle.sealed(document | {"evidence": document["evidence"][::-1]}, bytes.fromhex(document["seal"])),
        bundle.sealed(document | {"seal": None}, bytes(64)),
        b"",
        b"{}\n",
        b"[]\n",
        b'"x"\n',
        b"[" * 100_000,
        b'{"made":"\\ud800"}\n',
        b'{"version":"bankhub.evidence.1","x":1.5}\n',
        b"\xff\xfe",
    ):
        with pytest.raises(Invalid):
            bundle.verify(bad, ANCHOR)


def test_the_anchor_decides_whose_seal_counts() -> None:
    data, thief = made(), sm2.generate()
    for trusted in ({}, {"seals.1": KEY.point}, {"seals.2": thief.point}):
        with pytest.raises(Invalid, match="anchor does not know"):
            bundle.verify(data, trusted)
    document = bundle.unsealed(PIECES, AT, "seals.2", thief.point)
    forged = bundle.sealed(document, sm2.sign(thief, bundle.statement(document)))
    with pytest.raises(Invalid, match="anchor does not know"):
        bundle.verify(forged, ANCHOR)
    document = bundle.unsealed(PIECES, AT, "seals.2", KEY.point)
    forged = bundle.sealed(document, sm2.sign(thief, bundle.statement(document)))
    with pytest.raises(Invalid, match="seal does not hold"):
        bundle.verify(forged, ANCHOR)
    for bad in (
        b"",
        b"{}",
        b'{"version":"bankhub.anchor.1","keys":{}}',
        b'{"version":"bankhub.anchor.1","keys":{"a":"X"}}',
    ):
        with pytest.raises(Invalid):
            bundle.read_anchor(bad)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"person": "72"}, "about something else"),
        ({"enterprise": "8"}, "about something else"),
        ({"challenge": "9"}, "about something else"),
        ({"action": "gateway.access.delete_role"}, "about something else"),
        ({"message": "{}"}, "cannot be read"),
        ({"digest": "00" * 32}, "signature does not hold"),
        ({"signature": "00" * 64}, "signature does not hold"),
        ({"point": PIECES[1].point.hex() if PIECES[1].point else ""}, "signature does not hold"),
        ({"algorithm": "SM2"}, "signature does not hold"),
        ({"algorithm": "SMS"}, "signature does not hold"),
        ({"signature": None}, "signature does not hold"),
        ({"signature": "zz"}, "no hex"),
        ({"proven": "2026-11-01T09:34:00.000000+00:00"}, "outside the time"),
        ({"proven": "2026-11-01T09:28:59.000000+00:00"}, "outside the time"),
        ({"proven": "yesterday"}, "cannot be read"),
        ({"person": 71}, "something else"),
        ({"more": "x"}, "not the fields"),
    ],
)  # fmt: skip
def test_a_seal_does_not_make_wrong_evidence_right(change: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        bundle.verify(resealed(lambda one: one.update(change)), ANCHOR)


def test_the_verb_needs_nothing_but_the_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, anchor = tmp_path / "bundle.json", tmp_path / "anchor.json"
    file.write_bytes(made(PIECES[:1]))
    anchor.write_bytes(bundle.anchor(ANCHOR))
    words = [
        sys.executable,
        "-m",
        "bankhub",
        "verify",
        "evidence",
        "--bundle",
        str(file),
        "--anchor",
        str(anchor),
    ]
    environ = {"PATH": "/usr/bin:/bin", "BANKHUB_VAR_DIR": str(tmp_path / "none"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environ, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "新建角色“前台”" in done.stdout
    assert "every one holds" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anchor.json", "bundle.json"], (
        "and leaves nothing"
    )

    data = file.read_bytes()
    file.write_bytes(data.replace("前台".encode(), "后台".encode()))
    assert evidence_bundle(file, anchor) == 1
    assert "BROKEN" in capsys.readouterr().out
    assert evidence_bundle(tmp_path / "nowhere", anchor) == 1
    assert "nowhere cannot be read" in capsys.readouterr().out
