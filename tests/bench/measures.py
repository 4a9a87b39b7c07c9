"""The measures. Each takes a `Rig` and returns a list of rounds; a round has each variant once, alternated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.bench.processes import (
    BenchFailed,
    Client,
    Result,
    Server,
    program_server,
    python_server,
    run_client,
)
from tests.bench.rig import Rig, free_port, whole

BODY_BYTES = 100
JOINED = 8
OUTSTANDING = 16  # a connection; 1,000 of them stay below what the hub lets wait (20,000)


@dataclass(frozen=True)
class Plan:
    """Sizes and times of a run."""

    rounds: int = 3
    fanout_connections: int = 1_000
    fanout_s: float = 2.5
    chat_connections: int = 1_000
    chat_s: float = 5.0
    paced_s: float = 6.0
    warm_s: float = 1.5
    window: int = 8  # SENDs that each connection has unanswered when the maximum is looked for
    naive_window: int = 2  # the naive design works on one a connection at a time: more would only wait
    idle_connections: int = 10_000
    recovery_connections: int = 5_000
    aim_per_s: int = 10_000


QUICK = Plan(
    rounds=1, fanout_s=0.8, chat_s=1.5, paced_s=2.0, warm_s=0.7, idle_connections=2_000, recovery_connections=1_000
)  # fmt: skip


def per_cpu_s(result: Result) -> float:
    """Deliveries per CPU second of the server."""
    return float(result["window_entries"] / (result["window_server_cpu_ns"] / 1e9))


# --- fan-out --------------------------------------------------------------------------------------------------------


def fanout(rig: Rig, plan: Plan) -> list[Result]:
    """One room with everybody in it; the publisher is inside the server."""
    variants: list[tuple[str, Callable[[], Result]]] = [
        ("hub_k8", lambda: _hub_fanout(rig, plan, JOINED)),
        ("broadcast_k8", lambda: _broadcast(rig, plan, JOINED)),
        ("send_k8", lambda: _send(rig, plan, JOINED)),
        ("broadcast_k1", lambda: _broadcast(rig, plan, 1)),
        ("hub_k1", lambda: _hub_fanout(rig, plan, 1)),
        ("send_k1", lambda: _send(rig, plan, 1)),
    ]
    return [alternated(rig, variants, round_) for round_ in range(plan.rounds)]


def alternated(rig: Rig, variants: list[tuple[str, Callable[[], Result]]], round_: int) -> Result:
    """Each variant once, in turn forwards and backwards, so that none always follows the same other."""
    order = variants if round_ % 2 == 0 else variants[::-1]
    return {name: rig.undisturbed(run) for name, run in order}


def _broadcast(rig: Rig, plan: Plan, joined: int) -> Result:
    with python_server("reference.broadcast", [BODY_BYTES, joined], rig.folder) as server:
        return _closed_loop(rig, plan, server, joined, raw=True)


def _send(rig: Rig, plan: Plan, joined: int) -> Result:
    with program_server(rig.send_loop, [rig.entry_bytes, joined], rig.folder) as server:
        return _closed_loop(rig, plan, server, joined, raw=True)


def _hub_fanout(rig: Rig, plan: Plan, joined: int) -> Result:
    words = [plan.fanout_connections, BODY_BYTES, joined]
    with python_server("fanout_server", words, rig.folder) as server:
        count, rig.entry_bytes = plan.fanout_connections, server.told["frame_bytes"]
        rig.tokens.write_text("".join(f"{i + 1}\n" for i in range(count)))
        rig.streams.write_text(f"{server.told['stream']} 0\n" * count)
        return _closed_loop(rig, plan, server, joined, tokens=rig.tokens, streams=rig.streams)


def _closed_loop(rig: Rig, plan: Plan, server: Server, joined: int, **options: object) -> Result:
    """Credits for 32 or 64 messages are out at any time, so no queue grows and what is counted was received."""
    return whole(
        run_client(
            rig.client, "fanout", server, connections=plan.fanout_connections, control_port=server.told["control"],
            batch=joined, window=32 if joined == 1 else 8, warm_s=plan.fanout_s / 3, measure_s=plan.fanout_s, **options,
        )
    )  # fmt: skip


# --- durable chat ---------------------------------------------------------------------------------------------------


def durable(rig: Rig, plan: Plan) -> list[Result]:
    """Rooms of 50: how many messages a second are committed and delivered, closed loop, against the naive design."""
    variants: list[tuple[str, Callable[[], Result]]] = [
        ("naive", lambda: _naive(rig, plan)),
        ("hub", lambda: _hub_durable(rig, plan, window=plan.window, measure_s=plan.chat_s)),
    ]
    return [alternated(rig, variants, round_) for round_ in range(plan.rounds)]


def paced(rig: Rig, plan: Plan, rate_per_s: float) -> list[Result]:
    """The same at a given rate: latency from when a message was due to its SENT."""
    take = partial(_hub_durable, rig, plan, rate=rate_per_s, outstanding=OUTSTANDING, measure_s=plan.paced_s)
    return [rig.undisturbed(take) for _ in range(plan.rounds)]


def _naive(rig: Rig, plan: Plan) -> Result:
    rig.prepare(plan.chat_connections)
    words = [rig.engines.database_url, rig.streams]
    with python_server("reference.naive", words, rig.folder) as server:
        return rig.durable(
            server, plan.chat_connections, window=plan.naive_window, warm_s=plan.warm_s, measure_s=plan.chat_s
        )


def _hub_durable(rig: Rig, plan: Plan, **options: object) -> Result:
    rig.prepare(plan.chat_connections)
    with rig.hub() as server:
        result = rig.durable(server, plan.chat_connections, warm_s=plan.warm_s, **options)
    _stored(rig, result)
    return result


def _stored(rig: Rig, result: Result) -> None:
    """What the client was told must be in the database: exactly, densely."""
    broken = asyncio.run(rig.people.broken_streams())
    if broken:
        raise BenchFailed(f"{broken} conversations are not stored as they were told")
    result["stored_as_told"] = True


# --- idle connections -----------------------------------------------------------------------------------------------


def idle(rig: Rig, plan: Plan) -> list[Result]:
    """Memory of connections that have said HELLO and nothing since, and how fast they came in."""
    return [_idle(rig, plan.idle_connections) for _ in range(plan.rounds)]


def _idle(rig: Rig, count: int) -> Result:
    rig.prepare(count)
    with rig.hub() as server:
        first = Client(rig.client, "idle", server, **rig.session_options(20))
        first.until_ready()  # what is imported or made only once is not the connections'
        first.stop()
        first.result()
        time.sleep(0.3)
        before_kib = server.rss_kib()
        client = Client(rig.client, "idle", server, connecting=512, sources=8, **rig.session_options(count))
        try:
            ready = client.until_ready()
            time.sleep(1.5)  # for what follows a HELLO: interest, presence
            after_kib = server.rss_kib()
            client.stop()
            result = whole(client.result())
        finally:
            client.kill()
    return {
        **result, "before_kib": before_kib, "after_kib": after_kib,
        "kib_per_connection": (after_kib - before_kib) / count, "hello_per_s": count / ready["took_s"],
    }  # fmt: skip


# --- recovery -------------------------------------------------------------------------------------------------------


def recovery(rig: Rig, plan: Plan) -> list[Result]:
    """A worker is killed under way and started again; everybody comes back with `resume` and must have everything."""
    return [_recovery(rig, plan) for _ in range(plan.rounds)]


def _recovery(rig: Rig, plan: Plan) -> Result:
    count = plan.recovery_connections
    rig.prepare(count)
    port = free_port()
    server = rig.start_hub(port).ready()
    client: Client | None = None
    try:
        client = Client(
            rig.client, "recover", server, connecting=1_000, sources=8, senders=count // 10, rate=count / 10,
            measure_s=1.0, **rig.session_options(count),
        )  # fmt: skip
        client.until_ready()
        time.sleep(1.5)  # chat is under way
        killed_ns = server.kill()
        server = rig.start_hub(port).ready()
        up_ns = time.monotonic_ns()
        result = client.result()
    finally:
        server.stop()
        if client is not None:
            client.kill()
    _stored(rig, result)
    if not result["complete"]:
        raise BenchFailed(f"not everybody recovered: {result}")
    result["recovery_s"] = (result["recovered_ns"] - killed_ns) / 1e9
    result["restart_s"] = (up_ns - killed_ns) / 1e9
    result["gaps"] = result["behind"] + result["holes"] + result["unaccounted"]
    return result
