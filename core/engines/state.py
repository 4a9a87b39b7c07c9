"""What the embedded engines remember between starts, under one directory: who holds it, secrets, ports, places."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import string
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.engines import EngineFailed

_FIRST_PORT, _LAST_PORT = 12_000, 22_000  # with 10,000 added still below the ports Linux gives to clients
_ACCESS_KEY_CHARS = string.ascii_uppercase + string.digits


class State:
    """The directory of one installation (`var/`). Files are written whole or not at all, mode 0600.

    Only one process at a time holds it; `close`, or the end of the process, lets go.
    """

    def __init__(self, var: Path) -> None:
        self.var = var.absolute()
        self._lock: int | None = None

    def make(self) -> None:
        """Make the directory and those in it that everybody uses. Raises `EngineFailed`."""
        try:
            # root's PostgreSQL runs as nobody, who must be able to pass (not to list); never a parent's business
            self.var.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            (self.var / "log").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EngineFailed(f"cannot use {self.var}: {error.strerror}") from error

    def open(self) -> None:
        """Make the directory and hold it. Raises `EngineFailed` when another process does."""
        self.make()
        try:
            lock = os.open(self.var / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EngineFailed(f"cannot use {self.var}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            raise EngineFailed(
                f"another bankhub (process {holder or 'unknown'}) is running on {self.var}: "
                "`bankhub down` stops it, BANKHUB_VAR_DIR starts another beside it"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def close(self) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def holder(self) -> int | None:
        """The process that holds the directory now, or None."""
        try:
            lock = os.open(self.var / "lock", os.O_RDWR)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(lock, 32).decode(errors="replace").strip()
            return int(text) if text.isdigit() else None
        finally:
            os.close(lock)
        return None

    # --- small files ------------------------------------------------------------------------------------------

    def read(self, name: str) -> dict[str, Any]:
        """A remembered JSON object; empty when there is none. Raises `EngineFailed` when it is damaged."""
        path = self.var / name
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise EngineFailed(f"cannot read {path}: {type(error).__name__}") from error
        if not isinstance(value, dict):
            raise EngineFailed(f"{path} is not a JSON object")
        return value

    def write(self, name: str, value: dict[str, Any]) -> None:
        write_private(self.var / name, json.dumps(value, indent=2) + "\n")

    def secret(self, name: str, *, make: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> str:
        """The secret of this name, made at first use."""
        known = self.read("secrets.json")
        if name not in known:
            known[name] = make()
            self.write("secrets.json", known)
        return str(known[name])

    # --- ports ------------------------------------------------------------------------------------------------

    def ports(self, name: str, count: int, *, offset: int = 0, fresh: bool = False) -> list[int]:
        """The ports of an engine: the remembered ones while they are free, else new ones, remembered.

        `offset`: a distance at which the engine takes a second port for each. `fresh`: the old ones turned out bad.
        """
        known = self.read("ports.json")
        old = known.get(name)
        if not fresh and isinstance(old, list) and len(old) == count and all(_free(p, offset) for p in old):
            return old
        taken = {port for ports in known.values() for port in ports}
        chosen = []
        for port in _candidates():
            if port not in taken and _free(port, offset):
                chosen.append(port)
                taken.add(port)
            if len(chosen) == count:
                break
        known[name] = chosen
        self.write("ports.json", known)
        return chosen

    def ports_taken(self, name: str, offset: int) -> bool:
        """Whether somebody else listens on a remembered port of an engine that does not run."""
        return not all(_free(port, offset) for port in self.read("ports.json").get(name, ()))

    def known_ports(self, name: str) -> list[int]:
        """The remembered ports, free or not. Raises `EngineFailed` when this engine never ran here."""
        ports = self.read("ports.json").get(name)
        if not ports:
            raise EngineFailed(f"{name} has never been started on {self.var}")
        return list(ports)


def access_key() -> str:
    """A new S3 access key in the usual shape: 20 capital letters and digits."""
    return "".join(secrets.choice(_ACCESS_KEY_CHARS) for _ in range(20))


def write_private(path: Path, text: str, *, owner: tuple[int, int] | None = None) -> None:
    """Write a file that only its owner can read, whole or not at all, durably."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            if owner is not None:
                os.fchown(file.fileno(), *owner)
        Path(temporary).replace(path)
        sync_directory(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Make renames in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a directory that may not be there."""
    if path.exists():
        shutil.rmtree(path)


def _candidates() -> Iterator[int]:
    for _ in range(10_000):
        yield _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
    raise EngineFailed(f"no free port between {_FIRST_PORT} and {_LAST_PORT}")


def _free(port: int, offset: int) -> bool:
    """Whether a server on loopback could listen on `port` (and on `port + offset`) now."""
    for number in {port, port + offset}:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
                probe.listen(1)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    return False
                raise
    return True
