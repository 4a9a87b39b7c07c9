"""What happens in a fault run: people talk, things break as the seed says, everything heals, the checker judges."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.engines import EngineFailed
from tests.fault.checker import FOREVER, Facts, Violation, check, memberships
from tests.fault.history import Row
from tests.fault.stage import Member, Stage

HEALED_S = 60.0  # P7: everybody is back and has everything so long after the last fault
ANSWERED_S = 30.0
BIG = 40_000  # bytes of some messages, so that a stalled client is felt


@dataclass
class Result:
    """What a run was, and what was wrong."""

    seed: int
    faults: list[str] = field(default_factory=list)
    operations: int = 0
    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0
    deliveries: int = 0
    connections: int = 0
    healed_s: float = 0.0
    violations: list[Violation] = field(default_factory=list)


Fault = Callable[[Stage], Awaitable[str]]


async def kill_worker(stage: Stage) -> str:
    worker = stage.chance.choice(stage.workers)
    worker.send(signal.SIGKILL)
    return f"kill -9 {worker.name}"


async def drain_worker(stage: Stage) -> str:
    worker = stage.chance.choice(stage.workers)
    worker.send(signal.SIGTERM)
    return f"drain {worker.name}"


async def stop_worker(stage: Stage) -> str:
    worker, for_s = stage.chance.choice(stage.workers), stage.chance.uniform(0.5, 3)
    worker.send(signal.SIGSTOP)
    asyncio.get_running_loop().call_later(for_s, worker.send, signal.SIGCONT)
    return f"SIGSTOP {worker.name} for {for_s:.1f} s"


def at(failpoint: str) -> Fault:
    async def kill_at(stage: Stage) -> str:
        worker, hit = stage.chance.choice(stage.workers), stage.chance.randint(1, 12)
        worker.kill_at(failpoint, hit)
        return f"kill {worker.name} at {failpoint} ({hit}. hit)"

    kill_at.__name__ = f"kill_{failpoint.rpartition('.')[2]}"
    return kill_at


async def kill_postgres(stage: Stage) -> str:
    stage.engines.process("postgres").kill()
    await asyncio.sleep(stage.chance.uniform(0.0, 1.0))
    await stage.engines.restart("postgres")
    return "kill -9 PostgreSQL"


async def kill_valkey(stage: Stage) -> str:
    stage.engines.process("valkey").kill()
    await asyncio.sleep(stage.chance.uniform(0.0, 3.0))
    await stage.engines.restart("valkey")
    return "kill -9 Valkey"


async def flush_valkey(stage: Stage) -> str:
    from redis.asyncio import Redis

    async with Redis.from_url(stage.engines.redis_url) as redis:
        await redis.flushall()
    return "FLUSHALL"


async def cut(stage: Stage) -> str:
    return f"cut {stage.proxy.cut(0.5)} connections in the middle of a frame"


async def stall(stage: Stage) -> str:
    for_s = stage.chance.uniform(1, 6)
    return f"{stage.proxy.stall(0.4, for_s)} clients read nothing for {for_s:.1f} s"


async def restart_programs(stage: Stage) -> str:
    members = stage.chance.sample(stage.members, 2)
    for member in members:
        await member.end()
        member.begin()
    return f"restart the programs of {', '.join(member.name for member in members)}"


async def change_members(stage: Stage) -> str:
    room = stage.chance.choice(stage.rooms)
    person = int(stage.chance.choice(stage.members).person)
    await stage.change(room, removed=[person])
    await asyncio.sleep(stage.chance.uniform(0, 1))
    await stage.change(room, added=[person])
    return f"{person} leaves {room} and comes back"


FAULTS: Sequence[Fault] = (
    kill_worker, kill_postgres, at("hub.before_commit"), kill_valkey, cut, at("hub.after_commit_before_ack"), stall,
    flush_valkey, at("hub.after_ack_before_fanout"), change_members, restart_programs, stop_worker, drain_worker,
)  # fmt: skip
"""In the order in which a run without a choice goes through them. Bus messages suffer all the time."""


async def run(
    seed: int, faults: Sequence[Fault] | None, *, count: int = 10, people: int = 6, rooms: int = 3, workers: int = 2,
    pause_s: tuple[float, float] = (0.3, 2.0),
) -> tuple[Result, Stage]:  # fmt: skip
    """One run; without `faults`, `count` drawn from the seed. The stage is closed, its history stays readable."""
    result = Result(seed)
    async with Stage(seed, workers=workers) as stage:
        chance = stage.chance
        await _people_and_rooms(stage, people, rooms)
        talking = [asyncio.create_task(_talk(stage, member)) for member in stage.members]
        for fault in faults if faults is not None else [chance.choice(FAULTS) for _ in range(count)]:
            await asyncio.sleep(chance.uniform(*pause_s))
            try:
                what = await fault(stage)
            except (EngineFailed, OSError) as error:
                what = f"{fault.__name__}: {error}"
            stage.history.fault(what)
            result.faults.append(what)
        await asyncio.sleep(1.0)
        began_s = asyncio.get_running_loop().time()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        result.violations += await _heal(stage)
        result.healed_s = round(asyncio.get_running_loop().time() - began_s, 1)
        rows, heads = await stage.rows()
        ours = [row for row in rows if row.stream in stage.rooms]
        clients = {member.name: member.person for member in stage.members}
        facts = Facts(ours, {room: heads.get(room, 0) for room in stage.rooms}, clients)
        result.violations += check(stage.history, facts)
        result.violations += _notices(stage)
        if result.violations:
            result.faults.append(stage.worker_log())
        operations = stage.history.operations
        result.operations = len(operations)
        result.acknowledged = sum(o.outcome == "ok" for o in operations)
        result.unknown = sum(o.outcome == "unknown" for o in operations)
        result.refused = sum(o.outcome == "fail" for o in operations)
        result.deliveries = len(stage.history.deliveries)
        result.connections = sum(m.client.connections for m in stage.members if m.client is not None)
    return result, stage


async def _people_and_rooms(stage: Stage, people: int, rooms: int) -> None:
    persons = [str(100 + n) for n in range(people)]
    for n in range(rooms):
        members = [int(person) for person in persons if (int(person) + n) % 4 or n == 0]
        stage.rooms.append(await stage.world.conversation(*members))
    for person in persons:
        stage.members.append(Member(stage, f"phone-{person}", person))
    stage.members.append(Member(stage, f"tablet-{persons[0]}", persons[0]))
    for member in stage.members:
        member.begin()
    for member in stage.members:
        assert member.client is not None
        await member.client.online()


async def _talk(stage: Stage, member: Member) -> None:
    """Says things, some of them large, some twice at once with the same key, without waiting for every answer."""
    chance, count = random.Random(f"{stage.history.seed} {member.name} talks"), 0
    running: set[asyncio.Task[None]] = set()
    while True:
        await asyncio.sleep(chance.uniform(0.02, 0.3))
        count += 1
        room = chance.choice(stage.rooms)
        body: Any = f"{member.name} says {count}"
        if chance.random() < 0.1:
            body = {"text": body + "." * BIG}
        key = f"{stage.history.seed}-{member.name}-{count}"
        again = 2 if chance.random() < 0.1 else 1
        speakers = [m for m in stage.members if m.person == member.person][:again] if again == 2 else [member]
        for speaker in [*speakers, *([member] if again > len(speakers) else [])]:
            task = asyncio.create_task(speaker.say(room, body, key))
            running.add(task)
            stage.talking.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(stage.talking.discard)
        while len(running) > 20:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)


async def _heal(stage: Stage) -> list[Violation]:
    """Everything runs again; nobody says anything new; waits until everybody has everything."""
    violations: list[Violation] = []
    for worker in stage.workers:
        worker.send(signal.SIGCONT)
    for name in ("postgres", "valkey"):
        if stage.engines.process(name).exit_code() is not None:
            await stage.engines.restart(name)
    if stage.talking:
        _, waiting = await asyncio.wait(set(stage.talking), timeout=ANSWERED_S)
        if waiting:
            violations.append(Violation("P7", f"{len(waiting)} messages are still not answered"))
    until_s = asyncio.get_running_loop().time() + HEALED_S
    missing = await _missing(stage)
    while missing and asyncio.get_running_loop().time() < until_s:
        await asyncio.sleep(0.2)
        missing = await _missing(stage)
    violations += [Violation("P7", f"after {HEALED_S:.0f} s {line}") for line in missing[:10]]
    await asyncio.sleep(0.5)  # what comes twice comes now
    return violations


async def _missing(stage: Stage) -> list[str]:
    rows, _ = await stage.rows()
    by_room: dict[str, list[Row]] = {room: [] for room in stage.rooms}
    for row in rows:
        if row.stream in by_room:
            by_room[row.stream].append(row)
    lines = []
    for room, entries in by_room.items():
        spans = memberships(entries)
        for member in stage.members:
            mine = spans.get(member.person, [])
            has = member.places[room].seq if room in member.places else 0
            if mine and mine[-1][1] == FOREVER and has < len(entries):
                lines.append(f"{member.name} is at {has} of {len(entries)} in {room}")
    return lines


def _notices(stage: Stage) -> list[Violation]:
    """No stream was rebuilt and no digest broke, so nobody may be told so."""
    return [
        Violation("P8", f"{member.name} was told {notice.what}", notice.stream, (notice.first,))
        for member in stage.members
        for notice in member.notices
        if notice.what in ("reset", "broken")
    ]
