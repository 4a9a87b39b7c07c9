"""`up -d`: the same `up`, in a session of its own; this process waits until it is up and prints what it said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from core.engines.state import State
from house.workers import FRONT_DOOR, READY_FD


def detach(var: Path, words: Sequence[str]) -> int:
    """Start `up` with these words (but -d) in the background. The exit code."""
    kept = [word for word in words if word not in ("-d", "--detach")]
    State(var).make()
    log_file = var / "log" / "up.log"
    reading, writing = os.pipe()
    # logins and codes of the demonstration are printed into it
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(descriptor, "wb") as log:
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
