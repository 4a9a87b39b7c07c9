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
from typing import Protocol

import orjson

from core.crypto import sm2
from core.crypto.encodings import Malformed, check_point
from core.crypto.ring import Key
from core.errors import Invalid
from core.settings import Settings


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


class Elsewhere(CryptoProvider, Protocol):
    """One whose keys are known by handles."""

    async def point(self, handle: str) -> bytes:
        """The public key behind a handle. Raises `Invalid` where there is none."""
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

    def __init__(self, software: SoftwareProvider, elsewhere: Mapping[str, Elsewhere]) -> None:
        self._software, self._elsewhere = software, elsewhere

    async def sign(self, key: Key, message: bytes) -> bytes:
        """See `CryptoProvider`. Raises `Invalid` for a key at a place that is not set up."""
        handle = handle_of(key)
        provider = self._software if handle is None else self._at(handle.at)
        return await provider.sign(key, message)

    async def point(self, place: str, handle: str) -> bytes:
        """The public key behind a handle at a place. Raises `Invalid`."""
        return await self._at(place).point(handle)

    def _at(self, place: str) -> Elsewhere:
        if place not in self._elsewhere:
            raise Invalid(f"keys at {place}, which is not set up here, cannot be used")
        return self._elsewhere[place]

    async def close(self) -> None:
        """See `CryptoProvider`."""
        for provider in (self._software, *self._elsewhere.values()):
            await provider.close()


def provider_of(settings: Settings) -> Providers:
    """The places where keys may be, as settings say. Raises `Invalid` or `Unavailable` for one that is not there."""
    from core.crypto.sdf import sdf_of
    from core.crypto.signserver import SignServerProvider

    elsewhere: dict[str, Elsewhere] = {}
    if settings.sdf_library is not None:
        elsewhere["sdf"] = sdf_of(settings.sdf_library, settings.sdf_password_file, settings.sdf_sessions)
    if settings.sign_server_url is not None:
        elsewhere["server"] = SignServerProvider(
            settings.sign_server_url, settings.sign_server_token_file, settings.sign_server_timeout_s
        )
    return Providers(SoftwareProvider(settings.sm2_threads), elsewhere)


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
