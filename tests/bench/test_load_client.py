"""The judge is judged: a hub that loses, repeats or invents one message must not pass the load client unnoticed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.bench import build
from tests.bench.reference.naive import welcome

MEMBERS = 4
ENTRY, SENT, GAP, PAGE = 7, 6, 12, 4


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build.load_client(tmp_path_factory.mktemp("programs"))
    except build.NoCompiler as error:
        pytest.skip(str(error))


class Room:
    """One conversation; `deliver` is where a test plants its bug."""

    def __init__(self, bug: str) -> None:
        self.bug, self.head = bug, 0
        self.members: list[ServerConnection] = []

    async def handle(self, connection: ServerConnection) -> None:
        async for data in connection:
            for frame in msgpack.unpackb(data):
                if frame[0] == 1:
                    self.members.append(connection)
                    await connection.send(welcome(frame[1], int(frame[3].removeprefix("bench-"))))
                elif frame[0] == 3:
                    entries = [
                        ["7", seq, "1", "1", "text", 0, "x", b"", None]
                        for seq in range(frame[3] + 1, self.head + 1)
                    ]
                    await self.push(
                        connection, [PAGE, frame[1], "7", 1, self.head, entries[:200], True, None]
                    )
                elif frame[0] == 5:
                    await self.said(connection, frame)

    async def said(self, sender: ServerConnection, frame: list[Any]) -> None:
        self.head += 1
        seq, planted = self.head, self.head == 5
        sent = [SENT, frame[1], frame[2], frame[3], seq, "1", 0, False, b""]
        entry = [ENTRY, 0, "7", seq, "1", "1", "text", 0, frame[5], b"", None]
        for member in list(self.members):
            victim = planted and member is self.members[-1]
            if victim and self.bug == "gap":
                await self.push(member, [GAP, 0, "7", seq, seq, "slow"])
            elif not (victim and self.bug == "lost"):
                await self.push(member, entry, *([entry] if victim and self.bug == "twice" else []))
        if planted and self.bug == "unasked":
            self.head += 1
            for member in self.members:
                await self.push(member, [ENTRY, 0, "7", self.head, *entry[4:]])
        if not (planted and self.bug == "unanswered"):
            await self.push(sender, sent)

    @staticmethod
    async def push(connection: ServerConnection, *frames: list[Any]) -> None:
        await connection.send(msgpack.packb(list(frames)))


Run = Callable[[str], Awaitable[dict[str, Any]]]


@pytest.fixture
async def run(program: Path, tmp_path: Path) -> Run:
    """Runs the load client against a room with a bug; its report."""
    tokens, streams = tmp_path / "tokens", tmp_path / "streams"
    tokens.write_text("token\n" * MEMBERS)
    streams.write_text("7 0\n" * MEMBERS)

    @asynccontextmanager
    async def serving(bug: str) -> AsyncIterator[int]:
        choose = lambda _, offered: offered[0]  # noqa: E731
        async with serve(
            Room(bug).handle, "127.0.0.1", 0, compression=None, select_subprotocol=choose
        ) as server:
            yield server.sockets[0].getsockname()[1]

    async def client(bug: str) -> dict[str, Any]:
        async with serving(bug) as port:
            process = await asyncio.create_subprocess_exec(
                str(program), "--mode", "durable", "--port", str(port), "--connections", str(MEMBERS), "--rate", "100",
                "--warm-s", "0.1", "--measure-s", "0.2", "--drain-s", "0.5",
                "--tokens", str(tokens), "--streams", str(streams),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, _ = await process.communicate()
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        return report

    return client


async def test_nothing_wrong(run: Run) -> None:
    report = await run("")
    assert report["complete"]
    assert report["sent"] > 10
    assert report["entries"] == report["expected_entries"] == MEMBERS * report["sent"]
    assert not any(
        report[flaw] for flaw in ("behind", "holes", "repeats", "unaccounted", "protocol_errors", "errors")
    )


@pytest.mark.parametrize(
    ("bug", "seen"),
    [
        ("lost", {"holes": 1, "behind": 0}),  # found by seq and fetched by SYNC, but the hub had said nothing
        ("twice", {"repeats": 1, "holes": 0}),
        ("gap", {"gap_frames": 1, "holes": 0, "behind": 0}),
        ("unasked", {"unaccounted": 1, "holes": 0}),
        ("unanswered", {"unaccounted": 1, "complete": False}),
    ],
)
async def test_bug_is_seen(run: Run, bug: str, seen: dict[str, int | bool]) -> None:
    report = await run(bug)
    assert {name: report[name] for name in seen} == seen
    assert not report["complete"] or report["entries"] != report["expected_entries"] or report["unaccounted"]
