"""Signing by a cryptographic machine (密码机) through its SDF library, as GM/T 0018 names the functions.

The machine keeps the private keys and signs digests: what is signed goes through SM3 here, with the id and the public
key in front. Handles are the machine's key indexes. A session serves one call at a time, so a few are kept; one that
fails in the connection is thrown away and the call is tried once more on a new one.

Tried against a library of our own (tests/core/crypto/sdf_double.c), never against a machine.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ctypes import POINTER, byref, c_char_p, c_ubyte, c_uint, c_void_p
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any, Final, TypeVar

from core.crypto import sm2
from core.crypto.encodings import Malformed, check_point
from core.crypto.provider import handle_of
from core.crypto.ring import Key
from core.errors import Invalid, Unavailable
from core.keys import read_secret

T = TypeVar("T")

_MAX: Final = 64  # bytes of a coordinate: ECCref_MAX_LEN; those of SM2 fill the last 32
_BROKEN: Final = frozenset({0x01000003, 0x01000004, 0x01000005, 0x01000006})
"""SDR_COMMFAIL, SDR_HARDFAIL, SDR_OPENDEVICE, SDR_OPENSESSION: the way to the machine, not what was asked of it."""


class EccPublicKey(ctypes.Structure):
    """ECCrefPublicKey."""

    _fields_ = (("bits", c_uint), ("x", c_ubyte * _MAX), ("y", c_ubyte * _MAX))


class EccSignature(ctypes.Structure):
    """ECCSignature."""

    _fields_ = (("r", c_ubyte * _MAX), ("s", c_ubyte * _MAX))


_FUNCTIONS: Final[dict[str, list[Any]]] = {
    "SDF_OpenDevice": [POINTER(c_void_p)],
    "SDF_CloseDevice": [c_void_p],
    "SDF_OpenSession": [c_void_p, POINTER(c_void_p)],
    "SDF_CloseSession": [c_void_p],
    "SDF_GetPrivateKeyAccessRight": [c_void_p, c_uint, c_char_p, c_uint],
    "SDF_ReleasePrivateKeyAccessRight": [c_void_p, c_uint],
    "SDF_ExportSignPublicKey_ECC": [c_void_p, c_uint, POINTER(EccPublicKey)],
    "SDF_InternalSign_ECC": [c_void_p, c_uint, c_char_p, c_uint, POINTER(EccSignature)],
}


class SdfError(Exception):
    """The library answered something else than SDR_OK."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: {code:#010x}")
        self.code = code


class _Session:
    """A session of the machine, and the keys it was let use."""

    def __init__(self, call: Callable[..., None], device: c_void_p, password: bytes) -> None:
        self._call, self._password = call, password
        self._handle = c_void_p()
        self._opened: set[int] = set()
        call("SDF_OpenSession", device, byref(self._handle))

    def point(self, index: int) -> bytes:
        key = EccPublicKey()
        self._call("SDF_ExportSignPublicKey_ECC", self._handle, index, byref(key))
        return b"\x04" + bytes(key.x)[-32:] + bytes(key.y)[-32:]

    def sign(self, index: int, digest: bytes) -> bytes:
        if index not in self._opened:
            self._call(
                "SDF_GetPrivateKeyAccessRight", self._handle, index, self._password, len(self._password)
            )
            self._opened.add(index)
        made = EccSignature()
        self._call("SDF_InternalSign_ECC", self._handle, index, digest, len(digest), byref(made))
        return bytes(made.r)[-32:] + bytes(made.s)[-32:]

    def close(self) -> None:
        for index in self._opened:
            self._call("SDF_ReleasePrivateKeyAccessRight", self._handle, index)
        self._call("SDF_CloseSession", self._handle)


class SdfProvider:
    """See the module; a `CryptoProvider` whose keys have handles at ``sdf``."""

    def __init__(self, library: Path, password: bytes, sessions: int) -> None:
        """Load the library and open the machine. Raises `Invalid` for a library that is none, `Unavailable`."""
        try:
            self._library = ctypes.CDLL(str(library))
            for name, arguments in _FUNCTIONS.items():
                getattr(self._library, name).argtypes = arguments
                getattr(self._library, name).restype = c_uint
        except (OSError, AttributeError) as error:
            raise Invalid(f"{library} is no library with the functions of GM/T 0018") from error
        self._password = password
        self._device = c_void_p()
        self._idle: LifoQueue[_Session] = LifoQueue()
        self._threads = ThreadPoolExecutor(sessions, thread_name_prefix="sdf")
        self._answered(lambda: self._call("SDF_OpenDevice", byref(self._device)))

    async def sign(self, key: Key, message: bytes) -> bytes:
        """See `CryptoProvider`. A signature that does not verify is not given out: the handle names another key."""
        handle = handle_of(key)
        assert handle is not None, "keys without a handle are signed with by software"
        digest, index = sm2.signed_digest(handle.point, message), _index(handle.handle)

        def sign() -> bytes:
            made = self._within(lambda session: session.sign(index, digest))
            if not sm2.verify(handle.point, message, made):
                raise Unavailable("the machine signs with another key than the ring says")
            return made

        return await asyncio.get_running_loop().run_in_executor(self._threads, sign)

    async def point(self, handle: str) -> bytes:
        """The public key behind a handle, for the ring. Raises `Invalid` where the machine gives none."""
        index = _index(handle)
        given = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._within(lambda session: session.point(index))
        )
        try:
            return check_point(given)
        except Malformed as error:
            raise Invalid(f"the machine has no SM2 key {handle}") from error

    async def close(self) -> None:
        """See `CryptoProvider`. Running calls end first."""
        await asyncio.to_thread(self._threads.shutdown, wait=True)
        self._discard_resting()
        if self._device.value is not None:
            self._call("SDF_CloseDevice", self._device)
            self._device = c_void_p()

    def _within(self, work: Callable[[_Session], T]) -> T:
        """`work` in a session, again in a new one if that breaks. Threads are as many as sessions at most."""

        def attempt() -> T:
            session = self._resting() or _Session(self._call, self._device, self._password)
            try:
                result = work(session)
            except SdfError:
                self._discard(session)
                raise
            self._idle.put_nowait(session)
            return result

        def twice() -> T:
            try:
                return attempt()
            except SdfError as error:
                if error.code not in _BROKEN:
                    raise
            self._discard_resting()  # they were opened over the same broken way
            return attempt()

        return self._answered(twice)

    def _resting(self) -> _Session | None:
        try:
            return (
                self._idle.get_nowait()
            )  # asking whether there is one first would race with the other threads
        except Empty:
            return None

    def _discard_resting(self) -> None:
        while (session := self._resting()) is not None:
            self._discard(session)

    def _discard(self, session: _Session) -> None:
        with suppress(SdfError):  # it may be broken anyway
            session.close()

    def _answered(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except SdfError as error:
            raise Unavailable(f"the cryptographic machine refuses: {error}") from error

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            raise SdfError(function, code)


def sdf_of(library: Path, password_file: Path | None, sessions: int) -> SdfProvider:
    """The machine that settings name."""
    password = b"" if password_file is None else read_secret(password_file).strip()
    return SdfProvider(library, password, sessions)


def _index(handle: str) -> int:
    if not (handle.isascii() and handle.isdecimal()):
        raise Invalid("a handle at sdf is the index of a key")
    return int(handle)
