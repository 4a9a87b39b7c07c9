"""One contract for whoever signs: this process, a cryptographic machine, a signature server.

The machine is a library of ours, the server is one of ours, too: what is tried is our side of GM/T 0018 and of HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import ctypes.util
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from queue import LifoQueue
from typing import Any

import pytest
from aiohttp import web

from core.clock import ManualClock
from core.crypto import encodings, selftest, sm2
from core.crypto import ring as rings
from core.crypto.keyring import Keyring
from core.crypto.provider import (
    CryptoProvider,
    Handle,
    Providers,
    SoftwareProvider,
    handle_of,
    point_of,
    provider_of,
)
from core.crypto.ring import SEALS, Key, Ring
from core.crypto.sdf import SdfProvider
from core.crypto.signserver import SignServerProvider
from core.errors import Conflict, Invalid, Unavailable
from core.rng import SeededRng
from core.settings import load

HERE = Path(__file__).parent
PRIVATE = sm2.PrivateKey(selftest.PRIVATE, selftest.POINT)
OTHER = sm2.PrivateKey.of((5).to_bytes(32))


def key(material: bytes) -> Key:
    return Key("seals", 1, "current", 0, material)


def at(place: str, handle: str, point: bytes = selftest.POINT) -> Key:
    return key(Handle(place, handle, point).to_material())


@pytest.fixture(scope="session")
def sdf_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The machine, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not Path("/usr/include/openssl/evp.h").exists():
        pytest.skip(
            "the cryptographic machine is not tried: no C compiler, or no headers of libcrypto, is here"
        )
    out = tmp_path_factory.mktemp("sdf") / "libsdf_double.so"
    argv = [
        compiler,
        "-shared",
        "-fPIC",
        "-Wall",
        "-Werror",
        "-o",
        str(out),
        str(HERE / "sdf_double.c"),
        "-lcrypto",
    ]
    subprocess.run(argv, check=True)
    return out


class Server:
    """A signature server with the standard's key under the name ``seals/1``."""

    def __init__(self) -> None:
        self.url, self.calls, self.status, self.signs_with = "", 0, 200, PRIVATE
        self.answer: Any = None
        self.drop = 0

    async def sign(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        if self.drop:
            self.drop -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.status != 200 or self.answer is not None:
            return web.json_response(self.answer, status=self.status)
        given = await request.json()
        assert request.headers["Authorization"] == "Bearer token of the server"
        if given["key"] != "seals/1":
            return web.Response(status=404)
        made = sm2.sign(self.signs_with, base64.b64decode(given["data"]), given["id"].encode())
        return web.json_response({"signature": base64.b64encode(encodings.signature_to_der(made)).decode()})

    async def key(self, request: web.Request) -> web.Response:
        if request.match_info["key"] != "seals/1":
            return web.Response(status=404)
        return web.json_response({"public_key": base64.b64encode(encodings.to_spki(PRIVATE.point)).decode()})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_post("/v1/sign", made.sign)
    app.router.add_get("/v1/keys/{key:[^/]+}", made.key)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("token of the server\n")
    path.chmod(0o600)
    return path


@dataclass
class Signer:
    provider: CryptoProvider
    key: Key
    ask_point: Callable[[], Awaitable[bytes]]


@pytest.fixture(params=["software", "sdf", "server"])
async def signer(request: pytest.FixtureRequest, server: Server, token_file: Path) -> AsyncIterator[Signer]:
    """Each of the three, with the standard's key."""
    if request.param == "software":
        software = SoftwareProvider(2)
        material = key(PRIVATE.to_pkcs8())

        async def known() -> bytes:
            return point_of(material)

        yield Signer(software, material, known)
        await software.close()
    elif request.param == "sdf":
        machine = SdfProvider(request.getfixturevalue("sdf_library"), b"let me sign", 3)
        yield Signer(machine, at("sdf", "1"), lambda: machine.point("1"))
        await machine.close()
    else:
        remote = SignServerProvider(server.url, token_file, 5.0)
        yield Signer(remote, at("server", "seals/1"), lambda: remote.point("seals/1"))
        await remote.close()


async def test_whoever_signs_signs_right(signer: Signer) -> None:
    messages = [b"", b"message digest", bytes(range(256)) * 20]
    made = await asyncio.gather(*(signer.provider.sign(signer.key, m) for m in messages * 8))
    for message, signature in zip(messages * 8, made, strict=True):
        assert sm2.verify(selftest.POINT, message, signature)
        assert not sm2.verify(selftest.POINT, message + b".", signature)
    assert await signer.ask_point() == point_of(signer.key) == selftest.POINT


async def test_another_key_than_the_ring_says_gives_no_signature(
    signer: Signer, server: Server, sdf_library: Path
) -> None:
    handle = handle_of(signer.key)
    if handle is None:
        return  # software has the key itself
    with pytest.raises(Unavailable, match="another key"):
        await signer.provider.sign(at(handle.at, handle.handle, OTHER.point), b"m")


# --- the machine ----------------------------------------------------------------------------------------------------


async def test_a_session_that_breaks_is_replaced(sdf_library: Path) -> None:
    double = ctypes.CDLL(str(sdf_library))
    machine = SdfProvider(sdf_library, b"let me sign", 2)
    before = double.double_sessions()
    await asyncio.gather(*(machine.sign(at("sdf", "1"), b"%d" % n) for n in range(10)))
    assert 1 <= double.double_sessions() - before <= 2
    double.double_fail(1, 0x01000003)
    assert sm2.verify(selftest.POINT, b"again", await machine.sign(at("sdf", "1"), b"again"))
    double.double_fail(2, 0x01000003)
    with pytest.raises(Unavailable, match="0x01000003"):
        await machine.sign(at("sdf", "1"), b"twice")
    double.double_fail(1, 0x0100000C)
    with pytest.raises(Unavailable, match="0x0100000c"):
        await machine.sign(at("sdf", "1"), b"what was asked is wrong: not tried again")
    await machine.close()
    assert double.double_sessions() == before, "every session was closed"


class JustTaken(LifoQueue[Any]):
    """There was a session a moment ago; another thread has it now."""

    def empty(self) -> bool:
        return False


async def test_a_session_that_another_thread_took_is_no_failure(sdf_library: Path) -> None:
    machine = SdfProvider(sdf_library, b"let me sign", 2)
    machine._idle = JustTaken()
    assert sm2.verify(selftest.POINT, b"m", await machine.sign(at("sdf", "1"), b"m"))
    await machine.close()


async def test_what_the_machine_refuses(sdf_library: Path) -> None:
    stranger = SdfProvider(sdf_library, b"another password", 1)
    with pytest.raises(Unavailable, match="0x01000007"):
        await stranger.sign(at("sdf", "1"), b"m")
    with pytest.raises(Unavailable, match="0x01000008"):
        await stranger.point("2")
    for handle in ("one", "-1", ""):
        with pytest.raises(Invalid, match="index"):
            await stranger.point(handle)
    await stranger.close()


def test_a_library_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="GM/T 0018"):
        SdfProvider(tmp_path / "none.so", b"", 1)
    libc = ctypes.util.find_library("c")
    assert libc is not None
    with pytest.raises(Invalid, match="GM/T 0018"):
        SdfProvider(Path(libc), b"", 1)


# --- the server -----------------------------------------------------------------------------------------------------


async def test_a_server_that_is_away_refuses_or_talks_nonsense(server: Server, token_file: Path) -> None:
    remote = SignServerProvider(server.url, token_file, 2.0)
    server.drop = 1
    assert sm2.verify(selftest.POINT, b"m", await remote.sign(at("server", "seals/1"), b"m")), (
        "tried once more"
    )
    server.drop = 2
    with pytest.raises(Unavailable, match="does not answer"):
        await remote.sign(at("server", "seals/1"), b"m")
    with pytest.raises(Invalid, match="404"):
        await remote.sign(at("server", "none"), b"m")
    with pytest.raises(Invalid, match="404"):
        await remote.point("none")
    server.signs_with = OTHER
    with pytest.raises(Unavailable, match="another key"):
        await remote.sign(at("server", "seals/1"), b"m")
    for status, answer in ((500, {}), (302, {}), (200, {"signature": "AAAA"}), (200, []), (200, {"x": 1})):
        server.status, server.answer = status, answer
        with pytest.raises(Unavailable):
            await remote.sign(at("server", "seals/1"), b"m")
    await remote.close()
    with pytest.raises(Invalid, match="https"):
        SignServerProvider("http://signer.bank.example", None, 1.0)


# --- the ring -------------------------------------------------------------------------------------------------------


async def test_a_key_is_signed_with_where_it_is(sdf_library: Path, token_file: Path, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("let me sign")
    (tmp_path / "pin").chmod(0o600)
    settings = load({}, var_dir=tmp_path, sdf_library=sdf_library, sdf_password_file=tmp_path / "pin")
    provider = provider_of(settings)
    assert isinstance(provider, Providers)
    for one in (key(PRIVATE.to_pkcs8()), at("sdf", "1")):
        assert sm2.verify(selftest.POINT, b"m", await provider.sign(one, b"m"))
    with pytest.raises(Invalid, match="server, which is not set up"):
        await provider.sign(at("server", "x"), b"m")
    assert await provider.point("sdf", "1") == selftest.POINT
    with pytest.raises(Invalid, match="nowhere"):
        await provider.point("nowhere", "1")
    await provider.close()


def test_a_handle_becomes_the_next_key_and_then_the_current_one(tmp_path: Path) -> None:
    clock = ManualClock()
    keys = Keyring(tmp_path / "ring.json", clock)
    handle = Handle("sdf", "1", selftest.POINT)
    keys.attach(SEALS, handle.to_material())
    with pytest.raises(Conflict):
        keys.rotate(SEALS)
    clock.advance(rings.SETTLE_MS)
    assert handle_of(keys.rotate(SEALS)) == handle
    assert [(r.key_id, r.state, r.kept_in) for r in keys.inventory() if r.purpose == "seals"] == [
        ("seals.1", "previous", "file"),
        ("seals.3", "current", "sdf 1"),
        ("seals.4", "next", "file"),
    ]
    with pytest.raises(Conflict):
        rings.attached(rings.completed(Ring(()), 0, SeededRng(0)), rings.COLUMNS, handle.to_material(), 0)


@pytest.mark.parametrize(
    "material",
    [b"{", b"{}", b'{"at":"sdf","handle":"1","point":"04"}', b'{"at":"sdf","handle":"1","point":"zz"}'],
)
def test_a_handle_that_is_none(material: bytes) -> None:
    with pytest.raises(Invalid):
        handle_of(key(material))
    with pytest.raises(Invalid):
        point_of(key(b"0123"))
