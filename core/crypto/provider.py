"""Who signs with the bank's own keys: this process, a cryptographic machine, or a signature server.

A key of the ring either is a key (then `SoftwareProvider` signs in threads) or says where one is: its material is then
a handle such as ``{"at": "sdf", "handle": "3", "point": "04…"}`` and the private key never enters this process.
`bankhub keys` shows which. Public keys are public: everybody verifies with `core.crypto.sm2`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from core.crypto import sm2
from core.crypto.encodings import Malformed, check_point
from core.crypto.ring import Key
from core.errors import Invalid
from core.settings import Settings

SOFTWARE: Final = "software"


@dataclass(frozen=True, slots=True)
class Handle:
    """Where a private key is, and its public one."""

    at: str
    handle: str
    point: bytes

    def to_material(self) -> bytes:
        """For the ring."""
        return orjson.dumps({"at": self.at, "handle": self.handle, "point": self.point.hex()})


class CryptoProvider(Protocol):
    """Signs with SM2. Safe for many tasks at once."""

    async def sign(self, key: Key, message: bytes) -> bytes:
        """r || s under the default user id. Raises `Unavailable` where the key cannot be reached now."""
        ...

    async def close(self) -> None:
        """Let go of threads, sessions, connections."""
        ...


class SoftwareProvider:
    """Signs in this process, in as many threads as there are cores to spare: the event loop goes on meanwhile."""

    def __init__(self, threads: int = 2) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sm2")

    async def sign(self, key: Key, message: bytes) -> bytes:
        """See `CryptoProvider`."""
        private = sm2.PrivateKey.from_pkcs8(key.material)
        return await asyncio.get_running_loop().run_in_executor(self._threads, sm2.sign, private, message)

    async def close(self) -> None:
        """See `CryptoProvider`."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Providers:
    """Sends each key to where it is."""

    def __init__(self, by_place: Mapping[str, CryptoProvider]) -> None:
        self._by_place = by_place

    async def sign(self, key: Key, message: bytes) -> bytes:
        """See `CryptoProvider`. Raises `Invalid` for a key at a place that is not set up."""
        handle = handle_of(key)
        place = SOFTWARE if handle is None else handle.at
        provider = self._by_place.get(place)
        if provider is None:
            raise Invalid(f"the key {key.key_id} is at {place}, which is not set up here")
        return await provider.sign(key, message)

    async def close(self) -> None:
        """See `CryptoProvider`."""
        for provider in self._by_place.values():
            await provider.close()


def provider_of(settings: Settings) -> CryptoProvider:
    """The places where keys may be, as settings say."""
    return Providers({SOFTWARE: SoftwareProvider(settings.sm2_threads)})


def handle_of(key: Key) -> Handle | None:
    """Where an SM2 key of the ring is, if it is not in the ring itself. Raises `Invalid`."""
    if not key.material.startswith(b"{"):
        return None
    try:
        read = orjson.loads(key.material)
        return Handle(str(read["at"]), str(read["handle"]), check_point(bytes.fromhex(read["point"])))
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(f"the handle of {key.key_id} cannot be read") from error


def point_of(key: Key) -> bytes:
    """The public key of an SM2 key of the ring. Raises `Invalid`."""
    handle = handle_of(key)
    if handle is not None:
        return handle.point
    try:
        return sm2.PrivateKey.from_pkcs8(key.material).point
    except Malformed as error:
        raise Invalid(f"{key.key_id} is no SM2 key") from error
