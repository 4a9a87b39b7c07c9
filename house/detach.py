"""`up -d`: the same `up`, in a session of its own; this process waits until it is up and prints what it said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from house.workers import FRONT_DOOR, READY_FD


def detach(var: Path, words: Sequence[str]) -> int:
    """Start `up` with these words (but -d) in the background. The exit code."""
    kept = [word for word in words if word not in ("-d", "--detach")]
    directory = var / "log"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_file = directory / "up.log"
    reading, writing = os.pipe()
    with log_file.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, str(FRONT_DOOR), "up", *kept],
            env={**os.environ, READY_FD: str(writing)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            start_new_session=True,
            cwd="/",
        )
    os.close(writing)
    ready = os.read(reading, 64)
    os.close(reading)
    sys.stdout.write(log_file.read_text(errors="replace"))
    return 0 if ready else child.wait() or 1
