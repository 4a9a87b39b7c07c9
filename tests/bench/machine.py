"""The machine a benchmark ran on, what else it was doing, and how figures are made of rounds."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path

from tests.bench.processes import Result, cores


def headroom(runs: Result) -> Result:
    """1 minus the largest share of its core that the load client used, by measure; near 0 it was the limit itself."""
    shares: dict[str, float] = {}
    for measure, rounds in runs.items():
        for round_ in rounds:
            variants = {measure: round_} if "client_cpu" in round_ else round_
            for name, result in variants.items():
                if isinstance(result, dict) and "client_cpu" in result:
                    shares[name] = max(shares.get(name, 0.0), result["client_cpu"])
    return {name: round(1 - share, 3) for name, share in shares.items()}


def described() -> Result:
    """What it ran on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory_kib = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    server, others = cores()
    return {
        "cpu": model, "cores": os.cpu_count(),
        "server_core": server, "other_core": others, "memory_gib": round(memory_kib / 1024**2, 1),
        "kernel": platform.release(),
    }  # fmt: skip


def busy_s() -> float:
    """CPU time that all programs of the machine have used, all cores together."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, _lines("/proc/stat")[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_s() -> float:
    """CPU time of this process and of everything that it started and that has ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def median(values: Iterable[float]) -> float:
    """Of the rounds."""
    return float(statistics.median(values))


def rounded(value: float) -> float:
    """Four digits that mean something."""
    return float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))


def met(goal: tuple[str, float], value: float) -> bool:
    """Whether the goal was reached."""
    how, aim = goal
    return value >= aim if how == ">=" else value <= aim
