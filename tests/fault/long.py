"""`./bankhub bench faults --minutes N --seed S`: fault runs one after the other until the time is over."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import structlog

from tests.fault import files_scenario
from tests.fault.checker import report
from tests.fault.scenario import run


def run_faults(minutes: float, seed: int, *, as_json: bool = False, faults: int = 12) -> int:
    """Runs seeds `seed`, `seed + 1`, … for about so many minutes; prints what was done; 1 if a promise was broken."""
    quiet()
    began_s = time.monotonic()
    totals: dict[str, Any] = {
        "runs": 0, "faults": 0, "operations": 0, "acknowledged": 0, "unknown": 0, "refused": 0, "deliveries": 0,
        "violations": 0, "first_seed": seed,
    }  # fmt: skip
    slowest_s = 0.0
    while True:
        result, stage = asyncio.run(run(seed + totals["runs"], None, count=faults))
        totals["runs"] += 1
        for name in ("operations", "acknowledged", "unknown", "refused", "deliveries"):
            totals[name] += getattr(result, name)
        slowest_s = max(slowest_s, result.healed_s)
        totals["violations"] += len(result.violations)
        totals["faults"] += faults
        if result.violations:
            _say(report(stage.history, result.violations))
            _say("\n".join(result.faults))
            break
        if not as_json:
            _say(
                json.dumps({k: v for k, v in asdict(result).items() if k != "violations"}, ensure_ascii=False)
            )
        if time.monotonic() - began_s >= minutes * 60:
            break
    totals["slowest_healing_s"] = slowest_s
    totals["minutes"] = round((time.monotonic() - began_s) / 60, 2)
    _say(json.dumps(totals))
    return 1 if totals["violations"] else 0


def run_files(minutes: float, seed: int) -> int:
    """The same for files (`tests/fault/files_scenario.py`): one line a run."""
    quiet()
    began_s = time.monotonic()
    while True:
        result, words = asyncio.run(files_scenario.run(seed))
        _say(json.dumps(asdict(result), ensure_ascii=False))
        if result.violations:
            _say(words)
            return 1
        seed += 1
        if time.monotonic() - began_s >= minutes * 60:
            return 0


def quiet() -> None:
    """The logs of our own side say what the faults are: nothing new."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> int:
    """The words behind `bench faults`."""
    parser = argparse.ArgumentParser(prog="bankhub bench faults", description=run_faults.__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long, about (5)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the first run's seed; each run takes the next one (1)"
    )
    parser.add_argument("--faults", type=int, default=12, help="faults of one run (12)")
    parser.add_argument("--files", action="store_true", help="of files: gateway, object store and network")
    parser.add_argument("--json", action="store_true", help="nothing but one JSON object at the end")
    given = parser.parse_args(argv)
    if given.files:
        return run_files(given.minutes, given.seed)
    return run_faults(given.minutes, given.seed, as_json=given.json, faults=given.faults)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
