"""The keys of this installation in this process: read from a file, followed when the file changes.

The file is ``var/keys/ring.json``, made at first start, or the one that ``BANKHUB_KEYS_FILE`` names, which is a mounted
secret and never written by those who serve. With ``BANKHUB_KMS_URL`` the file holds the keys encrypted with a data key
that only the KMS can unwrap: a copy of the disk is then worth nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import structlog

from core.clock import Clock, from_ms
from core.crypto import ring as rings
from core.crypto import selftest, sm4
from core.crypto.kms import Kms, kms_of
from core.crypto.ring import PURPOSES, Key, Purpose, Ring
from core.errors import BankhubError, Invalid
from core.keys import keep, read_secret, replace_secret
from core.rng import Rng, SystemRng
from core.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One line of the inventory (ASVS 11.1.2): everything about a key but the key."""

    key_id: str
    purpose: str
    algorithm: str
    state: str
    created: datetime
    rotation_due: datetime | None  # of the current one
    kept_in: str

    def overdue(self, now: datetime) -> bool:
        """Whether the rotation should have happened."""
        return self.rotation_due is not None and self.rotation_due <= now


class Keyring:
    """Gives keys out by purpose. One for a process; `refresh` may be called from any thread."""

    def __init__(
        self, path: Path, clock: Clock, *, ours: bool = True, kms: Kms | None = None, rng: Rng | None = None
    ) -> None:
        """Run the self test, read the ring; make it first if it is `ours` to make.

        Raises `Invalid` for a file that others can read or that is no ring, `Internal` where the self test fails.
        """
        selftest.run()
        self.path, self._clock, self._ours, self._kms = path, clock, ours, kms
        self._rng = rng or SystemRng()
        self._data_key: tuple[bytes, bytes] | None = None  # it, and wrapped
        self._seen: object = None
        if ours:
            keep(path, lambda: self._bytes(rings.completed(Ring(()), clock.now_ms(), self._rng)))
        self._ring = Ring(())
        self.refresh()
        if ours and rings.completed(self._ring, 0, self._rng) != self._ring:
            self.complete()  # this version has purposes that the one before had not

    def current(self, purpose: Purpose) -> Key:
        """What to make new things with. Raises `NotFound`."""
        return self._ring.current(purpose)

    def get(self, purpose: Purpose, version: int) -> Key:
        """What to read old things with. Raises `Invalid` for a key that is not known, also after a look at the file."""
        key = self._ring.get(purpose, version)
        if key is None and self.refresh():
            key = self._ring.get(purpose, version)
        if key is None:
            raise Invalid(f"the key {purpose.name}.{version} is not known here")
        return key

    def all(self, purpose: Purpose) -> list[Key]:
        """Every key that something may have been made with, the current one first, then from new to old."""
        return sorted(self._ring.of(purpose), key=lambda key: (key.state != "current", -key.version))

    def inventory(self) -> list[KeyRecord]:
        """Every key: what it is for, how old, when the next rotation is due."""
        where = "KMS envelope" if self._kms is not None else "file"
        return [
            KeyRecord(
                key.key_id,
                key.purpose,
                purpose.algorithm,
                key.state,
                from_ms(key.created_ms),
                from_ms(key.created_ms) + timedelta(days=purpose.rotate_days)
                if key.state == "current"
                else None,
                _place(key) or where,
            )
            for purpose in PURPOSES.values()
            for key in self._ring.of(purpose)
        ]

    # --- the file -------------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read the file if it has changed; whether it had. What cannot be read later leaves the keys as they are."""
        try:
            stat = self.path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return False
            self._ring, self._seen = self._read(), seen
        except (OSError, BankhubError) as error:
            if self._seen is None:
                raise Invalid(f"the keys in {self.path} cannot be used: {error}") from error
            log.error("keys.not_refreshed", reason=type(error).__name__)
            return False
        log.info("keys.read", keys=len(self._ring.keys))
        return True

    def rotate(self, purpose: Purpose, *, at_once: bool = False) -> Key:
        """Make the next key the current one; it. Raises `Conflict`, see `core.crypto.ring.rotated`."""
        self._change(
            lambda ring: rings.rotated(ring, purpose, self._clock.now_ms(), self._rng, at_once=at_once)
        )
        return self.current(purpose)

    def retire(self, purpose: Purpose, version: int) -> None:
        """Forget a previous key. Raises `Conflict`."""
        self._change(lambda ring: rings.retired(ring, purpose, version))

    def attach(self, purpose: Purpose, material: bytes) -> None:
        """Make a handle (`core.crypto.provider.Handle`) the next key. Raises `Conflict`."""
        self._change(lambda ring: rings.attached(ring, purpose, material, self._clock.now_ms()))

    def complete(self) -> None:
        """Make keys for purposes that have none."""
        self._change(lambda ring: rings.completed(ring, self._clock.now_ms(), self._rng))

    def _change(self, change: Callable[[Ring], Ring]) -> None:
        with _locked(self.path):
            replace_secret(self.path, self._bytes(change(self._read())))
        self.refresh()

    def _read(self) -> Ring:
        data = read_secret(self.path)
        if self._kms is None:
            if rings.is_envelope(data):
                raise Invalid("it is an envelope, and no KMS is set")
            return rings.from_json(data)
        if not rings.is_envelope(data):
            raise Invalid("it is not an envelope, though a KMS is set")
        ring, data_key, wrapped = rings.from_envelope(data, self._unwrap)
        self._data_key = (data_key, wrapped)
        return ring

    def _unwrap(self, wrapped: bytes) -> bytes:
        assert self._kms is not None
        if self._data_key is not None and self._data_key[1] == wrapped:
            return self._data_key[0]  # a rotation does not need the KMS to be there
        return self._kms.unwrap(wrapped)

    def _bytes(self, ring: Ring) -> bytes:
        if self._kms is None:
            return rings.to_json(ring)
        if self._data_key is None:
            data_key = self._rng.randbytes(sm4.KEY_BYTES)
            self._data_key = (data_key, self._kms.wrap(data_key))
        return rings.to_envelope(ring, *self._data_key, self._rng)


def _place(key: Key) -> str | None:
    """Where the private key of a handle is."""
    if key.purpose != rings.SEALS.name or not key.material.startswith(b"{"):
        return None
    read = orjson.loads(key.material)
    return f"{read['at']} {read['handle']}"


class Follower:
    """Looks at the file every few seconds, beside the event loop's thread: a KMS may be slow."""

    def __init__(self, keys: Keyring, every_s: float) -> None:
        self._keys, self._every_s = keys, every_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="core.keys")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await asyncio.to_thread(self._keys.refresh)


def open_keyring(settings: Settings, clock: Clock, rng: Rng | None = None, *, make: bool = False) -> Keyring:
    """The keyring that settings name; `make`: also where the file is not ours to write.

    Raises as `Keyring` does, and `Unavailable` where the KMS does not answer.
    """
    path = settings.keys_file or settings.var_dir / "keys" / "ring.json"
    return Keyring(path, clock, ours=make or settings.keys_file is None, kms=kms_of(settings), rng=rng)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Changes of one file happen one after the other, in whichever processes."""
    with os.fdopen(os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def as_line(record: KeyRecord, now: datetime) -> dict[str, Any]:
    """A record for people and JSON."""
    return {
        "key_id": record.key_id,
        "purpose": record.purpose,
        "algorithm": record.algorithm,
        "state": record.state,
        "created": record.created.date().isoformat(),
        "rotation_due": record.rotation_due.date().isoformat() if record.rotation_due else None,
        "overdue": record.overdue(now),
        "kept_in": record.kept_in,
    }
