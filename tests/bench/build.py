"""Compiles the C programs of the benchmarks on the spot; the results are kept by the digest of their sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
COMPILERS = ("cc", "gcc", "clang")


class NoCompiler(Exception):
    """The load client is in C and there is no compiler: install one (Debian: apt-get install gcc libc6-dev)."""

    def __str__(self) -> str:
        return str(self.__doc__)


def load_client(cache: Path) -> Path:
    """The load client's program."""
    folder = HERE / "load"
    return compiled("load", sorted(folder.glob("*.c")), sorted(folder.glob("*.h")), cache)


def send_loop(cache: Path) -> Path:
    """The reference that is a loop of send()."""
    return compiled("send_loop", [HERE / "reference" / "send_loop.c"], [], cache)


def http_client(cache: Path) -> Path:
    """The load client of the gateway."""
    sources = [HERE / "http" / "client.c", HERE / "load" / "stats.c"]
    return compiled("http", sources, [HERE / "load" / "load.h"], cache)


def compiled(name: str, sources: list[Path], headers: list[Path], cache: Path) -> Path:
    """The program made from these sources, compiled if it is not there. Raises `NoCompiler`, `RuntimeError`."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NoCompiler
    digest = hashlib.sha256(repr((compiler, FLAGS)).encode())
    for source in (*sources, *headers):
        digest.update(source.read_bytes())
    program = cache / f"{name}-{digest.hexdigest()[:16]}"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = program.with_suffix(f".{os.getpid()}")
        words = [compiler, *FLAGS, *map(str, sources), "-o", str(made)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{compiler} could not compile {name}:\n{done.stderr}")
        made.rename(program)
    return program
