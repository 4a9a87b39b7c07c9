"""What makes a lock unfit is found; the real one is fit."""

from __future__ import annotations

import pytest

from house.lock import LOCK, ROOT, faults

PROJECT = '[project]\ndependencies = ["Typer>=0.29"]\n[dependency-groups]\ndev = []\n'
GOOD = "typer==0.29.2 \\\n    --hash=sha256:00\n"


@pytest.mark.requirement("D07")
def test_the_real_one() -> None:
    assert faults((ROOT / "pyproject.toml").read_text(), LOCK.read_text()) == []


def test_a_good_one() -> None:
    assert faults(PROJECT, GOOD) == []


def test_too_old_or_missing() -> None:
    assert "is locked" in faults(PROJECT, GOOD.replace("0.29.2", "0.28.0"))[0]
    assert "nothing is locked" in faults(PROJECT, "")[0]


@pytest.mark.requirement("D07")
def test_a_host_or_a_missing_hash() -> None:
    assert faults(PROJECT, "--index-url mirror\n" + GOOD) == ["the lock names a host"]
    assert faults(PROJECT, "typer==0.29.2\n") == ["typer has no hash"]
