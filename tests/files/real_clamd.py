"""A real clamd of our own, for what is tried against one."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import time
from pathlib import Path

from tests.files import samples


class RealClamd:
    """clamd in the foreground, with a signature base that knows EICAR and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "clamd.ctl"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        base = folder / "base"
        base.mkdir()
        digest = hashlib.md5(samples.EICAR).hexdigest()
        (base / "own.hdb").write_text(f"{digest}:{len(samples.EICAR)}:Eicar-Own\n")
        (base / "own.ndb").write_text(f"Own.Marker:0:*:{b'BANKHUB-TEST-MARKER'.hex()}\n")
        self.config = folder / "clamd.conf"
        lines = (
            f"DatabaseDirectory {base}",
            *(f"LocalSocket {self.socket}", "TCPAddr 127.0.0.1", f"TCPSocket {self.port}", "Foreground yes"),
            *("StreamMaxLength 4M", "MaxThreads 4", "FixStaleSocket yes", f"TemporaryDirectory {folder}"),
            *(f"LogFile {folder / 'log'}", "ReadTimeout 5"),
        )
        self.config.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(["clamd", f"--config-file={self.config}"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return self.socket.exists()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
