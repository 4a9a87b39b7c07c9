"""Who is looked into next: so many files at once, and people take turns however many files one of them has waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Lane:
    """``async with lane.turn(person_id): …``, at most `slots` of them at a time."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}  # whose turn is next comes first

    @asynccontextmanager
    async def turn(self, person_id: int) -> AsyncIterator[None]:
        """Wait for this person's turn, and have a slot inside."""
        if self._free:  # then nobody waits
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(person_id, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it was given the slot at the same moment
                    self._pass_on()
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give a slot to who is next; whoever has more waiting goes behind everybody else."""
        while self._waiting:
            person_id = next(iter(self._waiting))
            line = self._waiting.pop(person_id)
            turn = line.popleft()
            if line:
                self._waiting[person_id] = line
            if not turn.done():  # or nobody waits for it any more
                turn.set_result(None)
                return
        self._free += 1
