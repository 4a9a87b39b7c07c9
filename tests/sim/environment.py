"""The simulation's own interpreter: Python 3.12 or newer with the product's lock and simloop, under `var/`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = (ROOT / "requirements.lock", ROOT / "tests/sim/requirements.lock")
NEWER = ("python3.14", "python3.13", "python3.12")


class NoInterpreter(Exception):
    """There is no Python 3.12 or newer on this machine: the simulator needs one."""


def interpreter() -> Path:
    """A Python that really runs and is new enough: on PATH, or of pyenv, whose shims often do not run."""
    roots = [Path(os.environ.get("PYENV_ROOT", "")), Path.home() / ".pyenv"]
    candidates = [Path(found) for name in NEWER if (found := shutil.which(name))]
    candidates += [
        path for root in roots for name in NEWER for path in sorted(root.glob(f"versions/*/bin/{name}"))
    ]
    for path in [Path(sys.executable), *candidates]:
        asked = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 12))"]
        try:
            if (
                subprocess.run(
                    [str(word) for word in asked], capture_output=True, timeout=20, check=False
                ).returncode
                == 0
            ):
                return path
        except OSError:
            continue
    raise NoInterpreter


def prepared() -> Path:
    """The interpreter of an environment with everything in it. Raises `NoInterpreter`."""
    base = interpreter()
    wanted = hashlib.sha256(b"".join(lock.read_bytes() for lock in LOCKS) + str(base).encode()).hexdigest()[
        :16
    ]
    place = ROOT / "var" / f"simulation-{wanted}"
    python = place / "bin/python"
    if (place / "complete").exists():
        return python
    place.parent.mkdir(exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of one test run come here together
        if not (place / "complete").exists():
            _make(base, place)
    return python


def _make(base: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    environment = os.environ | {"UV_SYSTEM_CERTS": "1", "VIRTUAL_ENV": str(place)}
    uv = Path(sys.executable).with_name("uv")
    for words in (
        [uv, "venv", "--quiet", "--python", base, place],
        [uv, "pip", "install", "--quiet", "--require-hashes", "-r", LOCKS[0], "-r", LOCKS[1]],
    ):
        subprocess.run([str(word) for word in words], check=True, env=environment, timeout=300)
    (place / "complete").touch()
