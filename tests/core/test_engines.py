"""The embedded engines as an installation meets them: closed to strangers, found again, recovered after accidents."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from botocore.exceptions import ClientError
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from core.embedded import S3, EmbeddedEngines, EngineFailed
from core.engines.process import DirectoryLock
from core.engines.state import State

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def var(open_directory: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty place for engines of this test alone."""
    path = open_directory / f"{request.node.name[:40].replace('[', '-').replace(']', '')}"
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def store(open_directory: Path) -> Iterator[EmbeddedEngines]:
    """The object store alone."""
    engines = EmbeddedEngines(open_directory / "store", {"s3"})
    engines.start_blocking()
    yield engines
    engines.stop_blocking()


async def value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, ssl=False)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def status(url: str, method: str = "GET", body: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


# --- closed to strangers ------------------------------------------------------------------------------------------


async def test_the_database_keeps_what_it_acknowledges(engines: EmbeddedEngines) -> None:
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await value(engines.database_url, f"SHOW {name}") == "on"


async def test_the_application_is_not_the_superuser(engines: EmbeddedEngines) -> None:
    query = "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    assert await value(engines.database_url, query) is False


@pytest.mark.parametrize("user", ["postgres", "bankhub"])
async def test_the_database_asks_for_the_password(engines: EmbeddedEngines, user: str) -> None:
    port = engines.database_url.rpartition(":")[2].partition("/")[0]
    for password in ("", "wrong"):
        with pytest.raises(asyncpg.PostgresError):
            await asyncpg.connect(f"postgresql://{user}:{password}@127.0.0.1:{port}/bankhub", ssl=False)
    # pg_hba has nothing but scram: no trust for anybody, from anywhere
    methods = "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules"
    assert await value(engines.admin_url, methods) == "scram-sha-256"


async def test_valkey_asks_for_the_password(engines: EmbeddedEngines) -> None:
    bare = "redis://" + engines.redis_url.rpartition("@")[2]
    async with Redis.from_url(bare) as redis:
        with pytest.raises(AuthenticationError):
            await redis.ping()
    async with Redis.from_url(engines.redis_url) as redis:
        assert await redis.ping()


async def test_the_store_refuses_a_wrong_key_and_takes_the_right_one(store: EmbeddedEngines) -> None:
    s3 = store.s3
    async with s3.client() as client:
        await client.put_object(Bucket=s3.bucket, Key="a", Body=b"1")
        answer = await client.get_object(Bucket=s3.bucket, Key="a")
        async with answer["Body"] as body:
            assert await body.read() == b"1"
    for wrong in (
        S3(s3.endpoint, s3.access_key, "wrong", s3.bucket),
        S3(s3.endpoint, "A" * 20, s3.secret_key, s3.bucket),
    ):
        async with wrong.client() as client:
            with pytest.raises(ClientError) as refused:
                await client.put_object(Bucket=s3.bucket, Key="a", Body=b"2")
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert status(f"{s3.endpoint}/{s3.bucket}/a") == 403


def test_the_filer_answers_nobody_without_a_signature(store: EmbeddedEngines) -> None:
    filer = f"http://127.0.0.1:{store.port('filer')}"
    assert status(f"{filer}/buckets/{store.s3.bucket}/a") == 401
    assert status(f"{filer}/buckets/{store.s3.bucket}/b", "POST", b"x") == 401
    assert status(f"{filer}/buckets/{store.s3.bucket}/a", "DELETE") == 401


def test_the_volume_server_takes_nothing_without_a_signature(store: EmbeddedEngines) -> None:
    volume = f"http://127.0.0.1:{store.port('volume')}"
    assert status(f"{volume}/1,0100000000", "POST", b"x") == 401
    assert status(f"{volume}/1,0100000000", "DELETE") == 401


def speaks_grpc(port: int, context: ssl.SSLContext | None) -> bool:
    """Whether the server there begins an HTTP/2 conversation with us."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # and empty SETTINGS
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        if context is not None:
            connection = context.wrap_socket(connection, server_hostname="127.0.0.1")
        with connection:
            connection.sendall(preface)
            return connection.recv(9)[3:4] == b"\x04"
    except OSError:
        return False


def tls(home: Path, *, ours: bool, protocol: str = "h2") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(home / "authority.pem"))
    context.set_alpn_protocols([protocol])
    if ours:
        context.load_cert_chain(home / "part.pem", home / "part.key")
    return context


@pytest.mark.parametrize("part", ["master", "volume", "filer", "s3", "admin"])
def test_no_part_of_the_store_talks_to_strangers(
    store: EmbeddedEngines, open_directory: Path, part: str
) -> None:
    home, port = open_directory / "store" / "s3", store.port(part) + 10_000
    assert speaks_grpc(port, tls(home, ours=True))
    assert not speaks_grpc(port, tls(home, ours=False))
    assert not speaks_grpc(port, None)


def test_nobody_asks_the_master_for_signatures(store: EmbeddedEngines, open_directory: Path) -> None:
    address = f"127.0.0.1:{store.port('master')}/dir/assign"
    home = open_directory / "store" / "s3"
    with urllib.request.urlopen(
        f"https://{address}", context=tls(home, ours=True, protocol="http/1.1")
    ) as answer:
        assert json.loads(answer.read())["fid"]
    with pytest.raises(OSError, match=r"(?i)certificate|reset|closed|eof"):
        urllib.request.urlopen(
            f"https://{address}", context=tls(home, ours=False, protocol="http/1.1"), timeout=10
        )
    assert status(f"http://{address}") == 400


def test_engines_listen_on_loopback_only(engines: EmbeddedEngines, store: EmbeddedEngines) -> None:
    pids = {engines.process("postgres").pid, engines.process("valkey").pid, store.process("s3").pid}
    inodes = {str(file.readlink()) for pid in pids for file in Path(f"/proc/{pid}/fd").iterdir()}
    hosts = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                hosts.add(fields[1].partition(":")[0])
    assert hosts == {"0100007F"}


def test_secrets_are_private_and_no_argument_of_a_process(
    engines: EmbeddedEngines, store: EmbeddedEngines, open_directory: Path
) -> None:
    for running, names in ((engines, ("postgres", "valkey")), (store, ("s3",))):
        var = open_directory / ("store" if running is store else "var")
        secret_file = var / "secrets.json"
        assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
        secrets = json.loads(secret_file.read_text()).values()
        for name in names:
            process = f"/proc/{running.process(name).pid}"
            seen = Path(f"{process}/cmdline").read_bytes() + Path(f"{process}/environ").read_bytes()
            assert not any(secret.encode() in seen for secret in secrets)
    for private in (
        "store/s3/s3.json",
        "store/s3/security.toml",
        "store/s3/part.key",
        "var/valkey/valkey.conf",
    ):
        assert stat.S_IMODE((open_directory / private).stat().st_mode) == 0o600


# --- found again --------------------------------------------------------------------------------------------------


async def test_a_second_start_finds_everything(var: Path) -> None:
    async with EmbeddedEngines(var, {"postgres", "valkey"}, sync=False) as first:
        await value(first.database_url, "CREATE TABLE kept (id int)")
        async with Redis.from_url(first.redis_url) as redis:
            await redis.set("kept", "yes")
        urls = first.database_url, first.redis_url
    async with EmbeddedEngines(var, {"postgres", "valkey"}) as second:
        assert (second.database_url, second.redis_url) == urls
        assert await value(second.database_url, "SELECT count(*) FROM kept") == 0
        async with Redis.from_url(second.redis_url) as redis:
            assert await redis.get("kept") == b"yes"


async def test_objects_survive_a_change_of_ports(var: Path) -> None:
    async with EmbeddedEngines(var, {"s3"}) as first:
        async with first.s3.client() as client:
            for n in range(8):
                await client.put_object(Bucket="bankhub", Key=f"kept/{n}", Body=bytes([n]) * 4096)
        ports = [first.port(part) for part in ("master", "filer", "s3")]
    with socket.socket() as one, socket.socket() as two:
        for held, port in ((one, ports[0]), (two, ports[2])):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", port))
            held.listen()
        async with EmbeddedEngines(var, {"s3"}) as second, second.s3.client() as client:
            assert second.port("s3") != ports[2]
            await client.put_object(Bucket="bankhub", Key="kept/more", Body=b"more")
            for n in range(8):
                answer = await client.get_object(Bucket="bankhub", Key=f"kept/{n}")
                async with answer["Body"] as body:
                    assert await body.read() == bytes([n]) * 4096


async def test_a_taken_port_is_chosen_anew(var: Path) -> None:
    async with EmbeddedEngines(var, {"valkey"}) as first:
        port = int(first.redis_url.rpartition(":")[2].partition("/")[0])
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
        held.listen()
        async with EmbeddedEngines(var, {"valkey"}) as second:
            assert f":{port}/" not in second.redis_url


async def test_a_port_lost_between_the_look_and_the_start(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = socket.socket()
    looked = State.ports

    def then_taken(state: State, name: str, count: int, *, offset: int = 0, fresh: bool = False) -> list[int]:
        ports = looked(state, name, count, offset=offset, fresh=fresh)
        if held.getsockname()[1] == 0:
            held.bind(("127.0.0.1", ports[0]))
            held.listen()
        return ports

    monkeypatch.setattr(State, "ports", then_taken)
    with held:
        async with EmbeddedEngines(var, {"valkey"}) as engines:
            assert f":{held.getsockname()[1]}/" not in engines.redis_url


async def test_two_on_one_directory(var: Path) -> None:
    async with EmbeddedEngines(var, {"valkey"}):
        with pytest.raises(EngineFailed, match=f"process {os.getpid()}"):
            await EmbeddedEngines(var, {"valkey"}).start()
    assert State(var).holder() is None


# --- accidents ----------------------------------------------------------------------------------------------------


async def test_a_half_made_database_is_made_again(var: Path) -> None:
    engines = EmbeddedEngines(var, {"postgres"})
    engines.begin()
    half = var / "postgres" / "data.half"
    while not (half / "base").exists():
        await asyncio.sleep(0.005)
    await engines.stop()  # in the middle of initdb
    assert half.exists()
    assert not (var / "postgres" / "data").exists()
    async with EmbeddedEngines(var, {"postgres"}, sync=False) as again:
        assert await value(again.database_url, "SELECT 1") == 1
    assert not half.exists()


@pytest.mark.parametrize("pid", ["dead", "foreign"])
async def test_a_stale_pid_file(var: Path, pid: str) -> None:
    async with EmbeddedEngines(var, {"postgres"}, sync=False):
        kept = (var / "postgres" / "data" / "postmaster.pid").read_text()
    number = os.getpid() if pid == "foreign" else 2**22 - 1
    stale = "\n".join([str(number), *kept.splitlines()[1:]]) + "\n"
    file = var / "postgres" / "data" / "postmaster.pid"
    file.write_text(stale)
    shutil.chown(file, *((65534, 65534) if os.geteuid() == 0 else (None, os.getegid())))
    async with EmbeddedEngines(var, {"postgres"}) as again:
        assert await value(again.database_url, "SELECT 1") == 1


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from core.embedded import EmbeddedEngines

async def main() -> None:
    async with EmbeddedEngines(Path(sys.argv[1]), sync=False) as engines:
        print(*(engines.process(name).pid for name in ("postgres", "valkey", "s3")), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def start_supervisor(var: Path) -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(var)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "too late"
        time.sleep(0.02)


async def test_engines_end_with_a_killed_supervisor_and_the_next_one_recovers(var: Path) -> None:
    process, pids = await asyncio.to_thread(start_supervisor, var)
    engines = EmbeddedEngines(var)
    await value(engines.database_url, "CREATE TABLE kept (id int)")
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    async with engines:  # at once, while the old ones are still going
        assert await value(engines.database_url, "SELECT count(*) FROM kept") == 0
        assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_engines_end_within_seconds_of_a_killed_supervisor(var: Path) -> None:
    process, pids = start_supervisor(var)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    wait_until(lambda: not any(alive(pid) for pid in pids), 6.0)


async def test_a_killed_engine_is_started_again_with_what_it_had(var: Path) -> None:
    async with EmbeddedEngines(var, {"postgres", "valkey"}, sync=False) as engines:
        url = engines.database_url
        await value(url, "CREATE TABLE kept (id int)")
        supervising = asyncio.create_task(engines.supervise(lambda name: None))
        for name in ("postgres", "valkey"):
            old = engines.process(name)
            old.kill()
            await old.ended()
        until = time.monotonic() + 20
        while True:
            try:
                assert await value(url, "SELECT count(*) FROM kept") == 0
                async with Redis.from_url(engines.redis_url) as redis:
                    assert await redis.ping()
                break
            except (OSError, asyncpg.PostgresError, ConnectionError):
                assert time.monotonic() < until
                await asyncio.sleep(0.02)
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)


async def test_an_orphan_that_does_not_end_is_ended(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.engines.process._ORPHAN_WAIT_S", 0.2)
    var.mkdir()
    lock = DirectoryLock(var / "lock")
    await lock.acquire()
    orphan = await asyncio.create_subprocess_exec("/bin/sleep", "60", pass_fds=(lock.descriptor,))
    lock.note(orphan.pid)
    lock.release()
    following = DirectoryLock(var / "lock")
    await following.acquire()
    following.release()
    assert await orphan.wait() == -signal.SIGKILL


async def test_what_the_engine_says_is_in_the_error(var: Path) -> None:
    async with EmbeddedEngines(var, {"postgres"}, sync=False):
        pass
    (var / "postgres" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EngineFailed, match="version"):
        await EmbeddedEngines(var, {"postgres"}).start()


async def test_secrets_that_do_not_fit(var: Path) -> None:
    async with EmbeddedEngines(var, {"postgres"}, sync=False):
        pass
    (var / "secrets.json").unlink()
    with pytest.raises(EngineFailed, match=r"secrets\.json"):
        await EmbeddedEngines(var, {"postgres"}).start()


# --- root ---------------------------------------------------------------------------------------------------------

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a PostgreSQL of another user")


@root
async def test_root_opens_no_directory(open_directory: Path) -> None:
    closed = open_directory / "closed"
    closed.mkdir(mode=0o700)
    var = closed / "var"
    async with EmbeddedEngines(var, {"postgres"}, sync=False) as engines:
        assert Path(f"/proc/{engines.process('postgres').pid}").stat().st_uid == 65534
        home = Path(json.loads((var / "places.json").read_text())["postgres"])
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert not home.is_relative_to(closed)
    async with EmbeddedEngines(var, {"postgres"}) as again:
        assert await value(again.database_url, "SELECT 1") == 1
    shutil.rmtree(home)
    with pytest.raises(EngineFailed, match="which is gone"):
        await EmbeddedEngines(var, {"postgres"}).start()


@root
async def test_root_copies_programs_that_nobody_may_not_reach(
    open_directory: Path, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.engines.postgres._readable", lambda path: False)
    async with EmbeddedEngines(var, {"postgres"}, sync=False) as engines:
        program = Path(f"/proc/{engines.process('postgres').pid}/exe").readlink()
        assert program.is_relative_to(var)
        assert await value(engines.database_url, "SELECT 1") == 1
