"""Turns in the line of files that are to be looked into."""

from __future__ import annotations

import asyncio

from files.library.lanes import Lane


class Line:
    """Who has got a slot, in this order; each keeps it until it is told to leave."""

    def __init__(self, slots: int) -> None:
        self.lane = Lane(slots)
        self.got: list[str] = []
        self.leaving: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def come(self, name: str) -> None:
        """A file of the person whose letter it begins with."""
        self.leaving[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name))

    async def _stay(self, name: str) -> None:
        async with self.lane.turn(ord(name[0])):
            self.got.append(name)
            await self.leaving[name].wait()

    async def leave(self, name: str) -> None:
        self.leaving[name].set()
        await self.tasks[name]
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_people_take_turns_however_much_one_of_them_has() -> None:
    line = Line(1)
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        line.come(name)
        await settle()
    for expected in ("a1", "a2", "b1", "c1", "a3", "b2", "a4"):
        assert line.got[-1] == expected, line.got
        await line.leave(expected)
    line.come("d1")  # and the slot is free again
    await settle()
    assert line.got[-1] == "d1"
    await line.leave("d1")


async def test_slots_are_as_many_as_said_and_none_is_lost_by_who_gives_up() -> None:
    line = Line(2)
    for name in ("a1", "b1", "c1", "d1", "e1"):
        line.come(name)
    await settle()
    assert line.got == ["a1", "b1"]
    line.tasks["c1"].cancel()  # before its turn
    await settle()
    line.leaving["a1"].set()
    while "a1" in line.tasks and not line.tasks["a1"].done():
        await asyncio.sleep(0)
    line.tasks["d1"].cancel()  # at the moment of its turn, or a moment later
    await settle()
    assert line.got[-1] == "e1"
    await line.leave("b1")
    await line.leave("e1")
    for name in ("f1", "f2", "f3"):
        line.come(name)
    await settle()
    assert line.got[-2:] == ["f1", "f2"]
    for name in ("f1", "f2", "f3"):
        await line.leave(name)
    for name in ("c1", "d1"):
        assert line.tasks[name].cancelled()


async def test_a_slot_that_is_given_to_who_is_cancelled_at_that_moment_goes_on() -> None:
    line = Line(1)
    for name in ("a1", "b1", "c1"):
        line.come(name)
        await settle()
    line.lane._pass_on()  # b1 has been given the slot, and has not run yet
    line.tasks["b1"].cancel()
    await settle()
    assert line.got == ["a1", "c1"]
    for name in ("a1", "c1"):
        await line.leave(name)
