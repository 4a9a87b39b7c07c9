"""Failpoints: harmless unless armed, exact in which hit they act, and refusing what would prove nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.failpoints import FailpointError, arm, arm_from, disarm, failpoint, hit_sync
from core.rng import SeededRng, SystemRng

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def harmless() -> Iterator[None]:
    disarm()
    yield
    disarm()


async def test_nothing_happens_unless_armed() -> None:
    await failpoint("hub.before_commit")
    hit_sync("hub.before_commit")


async def test_the_nth_hit_and_only_it() -> None:
    arm_from("hub.before_commit=error@2; outbox.mid_delivery=error")
    await failpoint("hub.before_commit")
    with pytest.raises(FailpointError, match=r"hub\.before_commit"):
        await failpoint("hub.before_commit")
    await failpoint("hub.before_commit")
    for _ in range(2):
        with pytest.raises(FailpointError):
            hit_sync("outbox.mid_delivery")


async def test_a_test_can_hold_the_code_there() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go_on.wait()

    arm("hub.after_commit_before_ack", hold)
    passing = asyncio.create_task(failpoint("hub.after_commit_before_ack"))
    await reached.wait()
    assert not passing.done()
    go_on.set()
    await passing


@pytest.mark.parametrize(
    "text",
    ["hub.befor_commit=kill", "hub.before_commit", "hub.before_commit=explode", "hub.before_commit=kill@x",
     "hub.before_commit=kill@0"],
)  # fmt: skip
def test_what_would_never_act_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        arm_from(text)


def test_kill_kills_this_process_without_a_word() -> None:
    code = "from core.failpoints import hit_sync; [hit_sync('hub.before_commit') for _ in range(5)]; print('alive')"
    for when, dies in (("kill@3", True), ("kill@6", False)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "BANKHUB_FAILPOINTS": f"hub.before_commit={when}"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == (-signal.SIGKILL if dies else 0)
        assert (b"alive" in done.stdout) is not dies


def test_a_seed_replays_and_tokens_are_long() -> None:
    one, two = SeededRng("seed"), SeededRng("seed")
    assert [one.random(), one.randbytes(9), one.randint(1, 99), one.token()] == [
        two.random(), two.randbytes(9), two.randint(1, 99), two.token()
    ]  # fmt: skip
    system = SystemRng()
    assert len(system.token()) == 43
    assert system.token() != system.token()
    assert len(system.randbytes(16)) == 16
    assert 1 <= system.randint(1, 2) <= 2
    assert 0 <= system.random() < 1
