"""schemathesis in an environment of its own under `var/`: it brings thirty packages that the product must not have."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path(__file__).with_name("requirements.lock")


class NotInstallable(Exception):
    """schemathesis cannot be installed here: is the package index reachable?"""


def program() -> Path:
    """schemathesis, installed by the lock, once for all workers. Raises `NotInstallable`."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    place = ROOT / "var" / f"schemathesis-{digest}"
    place.parent.mkdir(exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            _make(place)
    return place / "bin/schemathesis"


def _make(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    environment = os.environ | {"UV_SYSTEM_CERTS": "1", "VIRTUAL_ENV": str(place)}
    uv = Path(sys.executable).with_name("uv")
    for words in (
        [uv, "venv", "--quiet", "--python", sys.executable, place],
        [uv, "pip", "install", "--quiet", "--require-hashes", "-r", LOCK],
    ):
        done = subprocess.run(
            [str(word) for word in words],
            env=environment,
            timeout=300,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotInstallable(done.stderr[-300:])
    (place / "complete").touch()
