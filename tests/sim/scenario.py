"""One run: real nodes on simulated machines, faults from the seed, then healing, then the judgement."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import structlog

import hub.node.admission
import hub.node.rooms
import hub.streams.writer
from core import failpoints
from hub.wire.codec import unpack
from tests.fault.checker import FOREVER, Facts, check, memberships, report
from tests.fault.history import History, Row
from tests.sim.adapter import Simulation
from tests.sim.client import Device
from tests.sim.doubles import Disk, FileRow
from tests.sim.world import ENTERPRISE, NODES, WRONG_MS, Office, World

STREAMS = {"100": [1, 2, 3, 4, 5], "200": [1, 2, 3, 4]}
COMES_AND_GOES = {"200": [2, 3, 4]}  # who is taken out of a stream and back in
DEVICES = [(1, "phone"), (1, "tablet"), (2, "phone"), (2, "desk"), (3, "phone"), (4, "phone"), (5, "phone")]
STORM_S = 5.0  # faults and messages
HEALED_S = 20.0  # P7: within so much virtual time everybody must have everything

EXPECTED = {
    "hub.admission_failed"
}  # what the hub logs with a traceback when the database refuses; the rest is a bug
_logged: list[str] = []


def _keep_errors(logger: Any, name: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    if event["event"] not in EXPECTED:
        error = sys.exc_info()[1]
        _logged.append(f"the hub logged {event['event']}: {error!r}")
    raise structlog.DropEvent


structlog.configure(
    processors=[_keep_errors], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
)


class Violation(AssertionError):
    """A promise was broken."""


async def scenario(sim: Simulation) -> dict[str, Any]:
    """Storm, healing, judgement. Raises `Violation`; returns figures of the run."""
    with _constants(sim):
        return await _scenario(sim)


@contextmanager
def _constants(sim: Simulation) -> Iterator[None]:
    """A third of the runs have tiny rings and batches: what is rare in production is common there."""
    if sim.seed % 3:
        yield
        return
    with (
        patch.object(hub.node.rooms, "RING_ENTRIES", 4),
        patch.object(hub.node.admission, "RING_ENTRIES", 4),
        patch.object(hub.node.rooms, "EARLY_MAX", 3),
        patch.object(hub.streams.writer, "BATCH_MAX", 2),
    ):
        yield


async def _scenario(sim: Simulation) -> dict[str, Any]:
    _logged.clear()
    world, history = World(sim), History(sim.seed)
    for stream in STREAMS:
        world.disk.open_stream(int(stream), ENTERPRISE, "conversation")
    sim.host("office")
    office = Office(world)
    await office.open()
    for name in NODES:
        world.boot(name)
    failpoints.disarm()
    for point in ("hub.before_commit", "hub.after_commit_before_ack", "hub.after_ack_before_fanout"):
        failpoints.arm(point, world.crash_here)
    for stream, members in STREAMS.items():
        await office.change(int(stream), added=members)
    devices = [_device(sim, history, person, device) for person, device in DEVICES]
    await asyncio.sleep(0.3)
    await storm(world, office, devices)
    failpoints.disarm()
    await calm(world, office)
    await healing(world, devices)
    devices.append(_device(sim, history, 1, "new"))  # who comes only now gets all of it too, as it is now
    await healing(world, devices)
    judge(world.disk, history, devices)
    return {
        "entries": sum(len(entries) for entries in world.disk.entries.values()), "faults": dict(world.faults),
        "acknowledged": sum(o.outcome == "ok" for o in history.operations), "deliveries": len(history.deliveries),
        "references": len(world.disk.references), "released": len(world.disk.released),
        "refused_files": sum(len(device.refused_files) for device in devices), "history": repr(history),
    }  # fmt: skip


def _device(sim: Simulation, history: History, person: int, kind: str) -> Device:
    steady = frozenset(s for s in STREAMS if person in STREAMS[s] and person not in COMES_AND_GOES.get(s, ()))
    device = Device(sim, history, f"{kind}-{person}", person, NODES, steady)
    sim.host(device.name).create_task(device.live())
    return device


async def storm(world: World, office: Office, devices: list[Device]) -> None:
    """People talk while things break."""
    sim, chance = world.sim, world.sim.chance
    until_s = sim.loop.time() + STORM_S
    cleaning: set[asyncio.Task[None]] = set()
    moving = asyncio.create_task(asyncio.sleep(0))
    while sim.loop.time() < until_s:
        await asyncio.sleep(chance.uniform(0.005, 0.06))
        speaker = chance.choice(devices)
        stream = chance.choice([s for s, members in STREAMS.items() if speaker.person in members])
        for _ in range(chance.choice((1, 1, 1, 3))):
            recall, file_id = chance.random() < 0.08, _file(world, speaker) if chance.random() < 0.25 else 0
            key = speaker.say(stream, recall=recall, file_id=file_id)
            for other in devices:
                if other is not speaker and other.person == speaker.person and chance.random() < 0.1:
                    other.repeat(speaker, key)
        _something_breaks(world, devices)
        if world.disk.files and chance.random() < 0.3:
            task = asyncio.create_task(office.clean_up(chance.choice(list(world.disk.files))))
            cleaning.add(task)
            task.add_done_callback(cleaning.discard)
        if chance.random() < 0.015 and moving.done():
            moving = asyncio.create_task(_come_and_go(world, office))
    await asyncio.wait({moving, *cleaning})


def _file(world: World, speaker: Device) -> int:
    """A file to be sent: mostly a new one of the speaker's own; else one that is not ready, or any that there is."""
    chance, files = world.sim.chance, world.disk.files
    drawn = chance.random()
    if drawn < 0.3 and files:
        return chance.choice(list(files))
    file_id = next(world.file_ids)
    files[file_id] = FileRow(ENTERPRISE, speaker.person, f"{file_id}.pdf", ready=drawn < 0.95)
    return file_id


async def _come_and_go(world: World, office: Office) -> None:
    chance = world.sim.chance
    stream = chance.choice(list(COMES_AND_GOES))
    person = chance.choice(COMES_AND_GOES[stream])
    await office.change(int(stream), removed=[person])
    await asyncio.sleep(chance.choice((0.0, chance.uniform(0, 0.5), chance.uniform(0, 3))))
    await office.change(int(stream), added=[person])


def _something_breaks(world: World, devices: list[Device]) -> None:
    sim, chance, faults = world.sim, world.sim.chance, world.faults
    drawn = chance.random()
    name = chance.choice(NODES)
    up = sim.alive(name) and name in world.machines
    if drawn < 0.012 and up:
        power = chance.random() < 0.5
        faults["crash: power" if power else "crash: killed"] += 1
        world.kill(name, power=power)
    elif drawn < 0.04:
        faults["cut"] += 1
        chance.choice(devices).cut()
    elif drawn < 0.05:
        faults["bus down"] += 1
        world.network.set_up(False)
        world.later(chance.uniform(0.1, 1.5), world.network.set_up, True)
    elif drawn < 0.06 and up:
        faults["bus hangs for one"] += 1
        world.machines[name].bus.hang(chance.uniform(0.2, 3.0))
    elif drawn < 0.07:
        faults["partition"] += 1
        sim.partition(chance.choice(devices).name, name)
        world.later(chance.uniform(0.1, 3.0), sim.heal)
    elif drawn < 0.075:
        world.restart_database(chance.uniform(0.1, 1.0))
    elif drawn < 0.09:
        faults["client stops reading"] += 1
        chance.choice(devices).stop_reading(chance.uniform(0.1, 2.0))
    elif drawn < 0.1:
        faults["clock set"] += 1
        sim.clock(name).ahead_ms = chance.randint(-WRONG_MS, WRONG_MS)


async def calm(world: World, office: Office) -> None:
    """Nothing breaks any more, everybody is where they belong, and machines come back."""
    world.rough = False
    world.sim.heal()
    world.network.set_up(True)
    for stream, people in COMES_AND_GOES.items():
        await office.change(int(stream), added=people)


async def healing(world: World, devices: list[Device]) -> None:
    """Everything works again: within a bounded time everybody has everything and has said so. Raises `Violation`."""
    until_s = world.sim.loop.time() + HEALED_S
    while waiting := list(_waiting(world.disk, devices)):
        if world.sim.loop.time() > until_s:
            raise Violation(f"P7: after {HEALED_S:.0f} s " + "; ".join(waiting[:5]))
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)  # what comes twice comes now


def _waiting(disk: Disk, devices: list[Device]) -> Iterator[str]:
    for device in devices:
        if device.pending:
            yield f"{device.name} waits for answers to {sorted(device.pending)[:3]}"
        for stream, members in STREAMS.items():
            if device.person in members:
                head, place = disk.streams[int(stream)].head, device.places.get(stream, 0)
                if place < head:
                    yield f"{device.name} is at {place} of {head} in {stream}"
                elif (marked := disk.members[int(stream), device.person]["delivered"]) < head:
                    yield f"{device.name} has acknowledged {head} of {stream}, and {marked} is stored"


def judge(disk: Disk, history: History, devices: list[Device]) -> None:
    """The judge of all fault runs, and what the devices saw themselves. Raises `Violation`."""
    rows = [
        Row(
            str(e.stream_id), e.seq, str(e.entry_id), str(e.sender_id), e.key, e.kind, e.time_ms,
            None if e.body is None else unpack(e.body), None if e.options is None else unpack(e.options), e.digest,
        )
        for stream in STREAMS
        for e in disk.entries[int(stream)]
    ]  # fmt: skip
    removed = {(row.stream, row.body["seq"]) for row in rows if row.kind == "recall"}
    facts = Facts(
        rows=rows,
        heads={stream: disk.streams[int(stream)].head for stream in STREAMS},
        clients={device.name: str(device.person) for device in devices},
        removed=removed,
    )
    violations = check(history, facts)
    if violations:
        raise Violation(report(history, violations))
    found = [violation for device in devices for violation in device.violations] + _logged
    found += [
        f"{d.client} came after the recall of {d.stream}/{d.seq} and got its body"
        for d in history.deliveries
        if d.client == devices[-1].name and (d.stream, d.seq) in removed and d.body is not None
    ]
    found += [f"{row.stream}/{row.seq} was recalled and has a body" for row in rows
              if (row.stream, row.seq) in removed and row.body is not None]  # fmt: skip
    found += _files(disk, rows, devices)
    for stream, members in STREAMS.items():
        spans = memberships([row for row in rows if row.stream == stream])
        here = {p for (s, p), m in disk.members.items() if s == int(stream) and m["active"]}
        if here != set(members) or any(spans[str(p)][-1][1] != FOREVER for p in members):
            found.append(f"members of {stream} are {sorted(here)}")
    if found:
        raise Violation("; ".join(found[:5]))


def _files(disk: Disk, rows: list[Row], devices: list[Device]) -> Iterator[str]:
    """A message is there if and only if its file is attached; a recall released it, once."""
    sent = {(int(row.stream), row.seq): row for row in rows if row.kind == "file"}
    shown = {(int(row.body["file_id"]), *place) for place, row in sent.items() if row.body is not None}
    for reference in {*shown, *disk.references}:
        expected = int(reference in shown)
        if disk.references[reference] != expected:
            yield f"the message of {reference} is {expected}, attached {disk.references[reference]} times"
        elif expected and reference[0] not in disk.files:
            yield f"file {reference[0]} is gone, and a message has it"
    for place in {*sent, *disk.released}:
        recalled = place in sent and sent[place].body is None
        if disk.released[place] != int(recalled):
            yield f"the files of {place} were released {disk.released[place]} times, recalled: {recalled}"
    for device in devices:
        for file_id, code in device.refused_files:
            row = disk.files.get(file_id)
            if row is not None and row.ready and row.person_id == device.person:
                yield f"{device.name} was refused {code} for file {file_id}, which is good"
