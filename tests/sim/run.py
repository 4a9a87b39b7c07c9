"""`python -m tests.sim.run --seeds N --start S [--plant BUG] [--jobs J]`: runs seeds, prints one JSON line.

Needs Python 3.12 or newer with simloop; `tests/sim/test_simulation.py` prepares such an environment.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import sys
import time
from collections import Counter
from typing import Any

from tests.sim import plants
from tests.sim.adapter import run
from tests.sim.scenario import scenario


def one(job: tuple[int, str | None]) -> dict[str, Any]:
    """One seed in this process."""
    seed, plant = job
    with plants.planted(plant):
        result, error, trace = run(seed, scenario)
    history = hashlib.sha256(repr(result and result["history"]).encode()).hexdigest()
    return {
        "seed": seed,
        "trace": trace,
        "history": history,
        "entries": result["entries"] if result else 0,
        "faults": result["faults"] if result else {},
        "error": None if error is None else f"{type(error).__name__}: {error}",
    }


def main() -> int:
    """Runs the seeds; 1 when one of them broke a promise (or, with --plant, when none did)."""
    parser = argparse.ArgumentParser(prog="tests.sim.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plant", choices=sorted(plants.PLANTS))
    parser.add_argument("--seconds", type=float, help="begin no further seed after so long")
    words = parser.parse_args()
    began_s = time.monotonic()
    jobs = ((seed, words.plant) for seed in range(words.start, words.start + words.seeds))
    runs, entries, faults = 0, 0, Counter[str]()
    failed: list[dict[str, Any]] = []
    traces: dict[int, str] = {}
    with multiprocessing.get_context("spawn").Pool(words.jobs) as pool:
        for done in pool.imap(one, jobs):
            runs += 1
            entries += done["entries"]
            faults.update(done["faults"])
            traces[done["seed"]] = done["trace"] + done["history"]
            if done["error"]:
                failed.append(done)
                if words.plant:
                    break
            if words.seconds and time.monotonic() - began_s > words.seconds:
                break
        pool.terminate()
    took_s = time.monotonic() - began_s
    print(
        json.dumps(
            {
                "plant": words.plant, "runs": runs, "entries": entries, "faults": dict(faults), "failed": len(failed),
                "first_failures": [{"seed": f["seed"], "error": f["error"]} for f in failed[:5]],
                "seeds_per_s": round(runs / took_s, 2),
                "traces": hashlib.sha256(repr(sorted(traces.items())).encode()).hexdigest(),
            },
            ensure_ascii=False,
        )
    )  # fmt: skip
    return int(not failed) if words.plant else int(bool(failed))


if __name__ == "__main__":
    asyncio.set_event_loop_policy(None)
    sys.exit(main())
