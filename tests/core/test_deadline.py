"""A deadline ends the work in time, and mistakes nobody else's cancellation for its own."""

from __future__ import annotations

import asyncio

import pytest

from core.deadline import deadline
from core.errors import DeadlineExceeded


async def test_what_takes_too_long_is_cancelled_where_it_waits() -> None:
    ended = False
    with pytest.raises(DeadlineExceeded), deadline(0.01):
        try:
            await asyncio.sleep(30)
        finally:
            ended = True
    assert ended
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0, "whoever comes next is not taken for cancelled"


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_none_is_left(seconds: float) -> None:
    with pytest.raises(DeadlineExceeded), deadline(seconds):
        await asyncio.sleep(30)


async def test_what_is_done_in_time_is_left_alone() -> None:
    with deadline(0.01):
        pass
    await asyncio.sleep(0.02)
    with pytest.raises(KeyError), deadline(30):
        raise KeyError


async def test_somebody_elses_cancellation_stays_one() -> None:
    async def work() -> None:
        with deadline(30):
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_at_once_is_a_cancellation() -> None:
    """The caller who went away must not be answered; asyncio.timeout decides it so too."""

    async def work() -> None:
        with deadline(0.01):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                task.cancel()
                raise

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_inner_of_two_ends_alone() -> None:
    with deadline(30):
        with pytest.raises(DeadlineExceeded), deadline(0.01):
            await asyncio.sleep(30)
        await asyncio.sleep(0)
