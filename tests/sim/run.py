"""`python -m tests.sim.run --seeds N --start S [--plant BUG] [--jobs J]`: runs seeds, prints one JSON line.

Any Python of the product will do: one without the simulator, or with another hash seed, goes on in one that has them.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

PLANTS = ("ack_before_commit", "attached_outside", "missing_dedupe_key", "resume_off_by_one")


def one(job: tuple[int, str | None]) -> dict[str, Any]:
    """One seed in this process."""
    from tests.sim import plants
    from tests.sim.adapter import run
    from tests.sim.scenario import scenario

    seed, plant = job
    with plants.planted(plant):
        result, error, trace = run(seed, scenario)
    gc.freeze()  # modules and their like: the simulator collects after each run, and need not look at them
    return {
        "seed": seed,
        "trace": trace + hashlib.sha256((result or {}).pop("history", "").encode()).hexdigest(),
        "figures": {k: v for k, v in (result or {}).items() if k != "faults"},
        "faults": result["faults"] if result else {},
        "error": None if error is None else f"{type(error).__name__}: {error}",
    }


def several(words: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seeds one after the other, in as many processes as asked for."""
    jobs = ((seed, words.plant) for seed in range(words.start, words.start + words.seeds))
    if words.jobs == 1:
        yield from map(one, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(words.jobs) as pool:
        yield from pool.imap(one, jobs)


def parsed() -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(prog="tests.sim.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plant", choices=PLANTS)
    parser.add_argument("--first", action="store_true", help="stop at the first seed that breaks a promise")
    parser.add_argument("--seconds", type=float, help="begin no further seed after so long")
    return parser.parse_args()


def main() -> int:
    """Runs the seeds; 1 when one of them broke a promise (or, with --plant, when none did)."""
    words = parsed()
    began_s = time.monotonic()
    runs, figures, faults = 0, Counter[str](), Counter[str]()
    failed: list[dict[str, Any]] = []
    traces: dict[int, str] = {}
    for done in several(words):
        runs += 1
        figures.update(done["figures"])
        faults.update(done["faults"])
        traces[done["seed"]] = done["trace"]
        if done["error"]:
            failed.append(done)
        late = bool(words.seconds) and time.monotonic() - began_s > words.seconds
        if (failed and words.first) or late:
            break
    took_s = time.monotonic() - began_s
    print(
        json.dumps(
            {
                "plant": words.plant, "runs": runs, "failed": len(failed), **figures, "faults": dict(faults),
                "first_failures": [{"seed": f["seed"], "error": f["error"]} for f in failed[:5]],
                "seeds_per_s": round(runs / took_s, 2),
                "traces": hashlib.sha256(repr(sorted(traces.items())).encode()).hexdigest(),
            },
            ensure_ascii=False,
        )
    )  # fmt: skip
    return int(not failed) if words.plant else int(bool(failed))


def in_its_environment() -> None:
    """Replaces this process by one that has the simulator and a fixed hash seed, unless it is one."""
    if find_spec("simloop") is not None and os.environ.get("PYTHONHASHSEED") == "0":
        return
    from tests.sim import environment

    python = sys.executable if find_spec("simloop") is not None else str(environment.prepared())
    words = [python, "-m", "tests.sim.run", *sys.argv[1:]]
    os.execve(python, words, os.environ | {"PYTHONHASHSEED": "0"})


if __name__ == "__main__":
    in_its_environment()
    sys.exit(main())
