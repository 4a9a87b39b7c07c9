"""`bankhub keys`: what it shows, what it does, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.clock import SystemClock
from core.crypto.keyring import open_keyring
from core.crypto.provider import handle_of
from core.crypto.ring import PURPOSES, SEALS
from core.db import connect
from core.errors import BankhubError, Conflict, Invalid
from core.settings import Settings, load
from gateway.identity.store import insert_person
from house.compose import columns_of
from house.doctor import _fitting, _keys
from house.keys import keys
from tests.core.crypto.test_providers import sdf_library

__all__ = ["sdf_library"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({}, var_dir=tmp_path)


def test_the_inventory(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert keys(settings) == 0
    said = capsys.readouterr().out
    assert "seals.1" in said
    assert "SM4-GCM" in said
    assert "OVERDUE" not in said


def test_turning(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    keys(settings)
    with pytest.raises(Conflict):
        keys(settings, rotate="tokens")
    assert keys(settings, rotate="tokens", at_once=True) == 0
    assert "tokens.2 is the current key now" in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked",
    [
        {"rotate": "nothing"},
        {"retire": "seals.1"},
        {"retire": "audit.1"},
        {"retire": "tokens"},
        {"attach": "sdf:1"},
    ],
)
def test_what_is_refused(settings: Settings, asked: dict[str, str]) -> None:
    with pytest.raises(BankhubError):
        keys(settings, **asked)  # type: ignore[arg-type]


def test_a_file_to_be_mounted_is_made_once(settings: Settings, tmp_path: Path) -> None:
    mounted = settings.model_copy(update={"keys_file": tmp_path / "for-kubernetes.json"})
    with pytest.raises(Invalid):
        keys(mounted)
    assert keys(mounted, add=True) == 0
    made = (tmp_path / "for-kubernetes.json").read_bytes()
    assert keys(mounted, add=True) == 0
    assert (tmp_path / "for-kubernetes.json").read_bytes() == made


def test_a_key_of_a_machine(settings: Settings, sdf_library: Path, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("let me sign")
    (tmp_path / "pin").chmod(0o600)
    with_machine = settings.model_copy(
        update={"sdf_library": sdf_library, "sdf_password_file": tmp_path / "pin"}
    )
    keys(with_machine, attach="sdf:1")
    keys(with_machine, rotate="seals", at_once=True)
    assert handle_of(open_keyring(settings, SystemClock()).current(SEALS)) is not None
    with pytest.raises(BankhubError):
        keys(with_machine, attach="sdf:2")


@pytest.mark.requirement("D05")
def test_the_doctor_looks_at_keys(settings: Settings) -> None:
    assert list(_keys(settings)) == []  # none yet: `up` makes them
    keys(settings)
    (finding,) = _keys(settings)
    assert finding.level == "ok"
    assert f"{2 * len(PURPOSES)} keys" in finding.what
    (settings.var_dir / "keys" / "ring.json").chmod(0o644)
    (finding,) = _keys(settings)
    assert finding.level == "bad"
    assert "open to others" in finding.what
    with pytest.raises(Invalid):
        keys(settings)


async def test_the_doctor_knows_whose_keys_these_are(
    settings: Settings, database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    db, columns = await connect(database, min_size=1, max_size=2), columns_of(settings)
    try:
        assert (await _fitting(settings, db)).level == "ok"  # nobody is there
        await insert_person(
            db,
            columns,
            5,
            phone="13800000001",
            login_name=None,
            name="某人",
            password_hash=None,
            now=SystemClock().now(),
        )
        assert (await _fitting(settings, db)).level == "ok"
        others = settings.model_copy(update={"var_dir": tmp_path_factory.mktemp("other")})
        finding = await _fitting(others, db)
        assert finding.level == "bad"
        assert "restore" in finding.advice
    finally:
        await db.close()
