"""The real hub under a simulated network, clock, database and bus; see README.md beside this file."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.sim import environment
from tests.sim.run import PLANTS

SEEDS = 150  # about 40 s of one core; the same ones everywhere, `tests.sim.run --start` takes others
FAULTS = {
    "bus down", "bus hangs for one", "bus late", "bus lost", "bus repeated", "client stops reading", "clock set",
    "commit finished after its line broke", "commit never arrived", "commit of the dead", "commit without an answer",
    "connection lost", "contention", "crash: failpoint",
    "crash: in the commit", "crash: killed", "crash: power", "cut", "database restarted",
    "database slow", "file cleaned up", "membership changed", "partition",
}  # fmt: skip


@pytest.fixture(scope="session")
def python() -> Path:
    try:
        return environment.prepared()
    except environment.NoInterpreter as reason:
        pytest.skip(f"simulation: {reason.__doc__}")


def simulate(python: Path, *words: str, hash_seed: str = "0") -> dict[str, Any]:
    """What `tests.sim.run` says."""
    done = subprocess.run(
        [python, "-m", "tests.sim.run", *words],
        cwd=environment.ROOT, env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.timeout(300)
def test_no_promise_breaks_whatever_the_seed(python: Path) -> None:
    result = simulate(python, "--seeds", str(SEEDS), "--jobs", "2", "--seconds", "90")
    print(result)
    assert result["failed"] == 0, result["first_failures"]
    assert result["runs"] >= 50, "this machine is too slow to say anything"
    assert set(result["faults"]) == FAULTS
    assert min(result["references"], result["released"], result["refused_files"]) >= result["runs"]


@pytest.mark.timeout(300)
def test_the_same_seed_is_the_same_run(python: Path) -> None:
    first = simulate(python, "--seeds", "3", "--start", "7")
    again = simulate(python, "--seeds", "3", "--start", "7")
    other = simulate(python, "--seeds", "3", "--start", "8")
    assert first["traces"] == again["traces"] != other["traces"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_found(python: Path, plant: str) -> None:
    result = simulate(
        python, "--seeds", "2000", "--plant", plant, "--first", "--jobs", "2", "--seconds", "90"
    )
    print(f"{plant}: found in {result['failed']} of {result['runs']} seeds")
    assert result["failed"], f"{plant} was not found in {result['runs']} seeds"
