"""`./bankhub bench NAME …`. A benchmark is a module here with `main(argv) -> exit code`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

MODULES = {
    "hub": "tests.bench.hub",  # throughput, latency, memory, recovery
    "gateway": "tests.bench.gateway",  # what the HTTP edge costs
    "files": "tests.bench.files",  # bytes through the gateway, against the store itself
    "faults": "tests.fault.long",  # the fault tests for as long as one likes: --minutes N
}


def main(words: Sequence[str]) -> int:
    """The words behind `./bankhub bench`."""
    if not words or words[0] not in MODULES:
        print(
            f"bankhub bench: one of {', '.join(MODULES)}; each explains itself with --help", file=sys.stderr
        )
        return 2
    return run(words[0], words[1:])


def run(name: str, argv: Sequence[str]) -> int:
    """One benchmark by name."""
    try:
        module = importlib.import_module(MODULES[name])
    except ModuleNotFoundError as error:
        if error.name is None or not MODULES[name].startswith(error.name):
            raise
        print(f"bankhub bench: {name} is not there", file=sys.stderr)
        return 2
    return int(module.main(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
