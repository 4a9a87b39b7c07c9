"""What a run of the benchmarks stands on: engines of its own, people, compiled programs, a folder that goes away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from core.db import migrate
from core.embedded import EmbeddedEngines
from core.settings import Settings, load
from tests.bench import build
from tests.bench.processes import (
    ROOT,
    BenchFailed,
    Result,
    Server,
    cores,
    python_server,
    run_client,
    start_python,
)
from tests.bench.seed import Population


class Rig:
    """Made by `rig()`."""

    def __init__(self, folder: Path, cache: Path, engines: EmbeddedEngines, people: int) -> None:
        self.folder, self.engines = folder, engines
        self.client = build.load_client(cache)
        self.send_loop = build.send_loop(cache)
        self.settings: Settings = load({}, var_dir=folder)
        self.people = Population(self.settings, people)
        self.tokens, self.streams = folder / "tokens", folder / "streams"
        self.entry_bytes = 0  # of one ENTRY on the wire, as the fan-out server tells it
        self.repeated: list[str] = []  # why measures were taken again
        self._runs = 0

    def environ(self, port: int) -> dict[str, str]:
        """Settings of a hub server."""
        return {
            "BANKHUB_DATABASE_URL": self.engines.database_url,
            "BANKHUB_REDIS_URL": self.engines.redis_url,
            "BANKHUB_VAR_DIR": str(self.folder),
            "BANKHUB_HUB_PORT": str(port),
            "BANKHUB_LOG_LEVEL": "warning",
            "BANKHUB_HUB_UNDECIDED_PER_SOURCE": "100000",  # all clients of a benchmark have one address
        }

    @contextlib.contextmanager
    def hub(self) -> Iterator[Server]:
        """A hub worker on the server's core."""
        with python_server("hub_server", [], self.folder, self.environ(free_port())) as server:
            yield server

    def start_hub(self, port: int) -> Server:
        """A hub worker, not waited for."""
        return start_python("hub_server", [], self.folder, self.environ(port))

    def prepare(self, connections: int) -> None:
        """Fresh tokens and present heads for so many connections, and nothing left to be written out."""
        self.people.write_tokens(self.tokens, connections)
        asyncio.run(self.people.write_streams(self.streams, connections))
        asyncio.run(self.people.checkpoint(self.engines.admin_url))

    def run_name(self) -> str:
        """A part of dedupe keys that no other run has."""
        self._runs += 1
        return f"r{self._runs}"

    def session_options(self, connections: int) -> Result:
        """What every run of the load client with sessions needs."""
        return {
            "connections": connections, "tokens": self.tokens, "streams": self.streams, "run": self.run_name(),
        }  # fmt: skip

    def durable(self, server: Server, connections: int, **options: object) -> Result:
        """A run of durable chat; its report. Raises `BenchFailed` or `Disturbed` when it is not whole."""
        try:
            return whole(
                run_client(self.client, "durable", server, **self.session_options(connections), **options)
            )
        except BenchFailed as error:  # with what the server had to say
            error.add_note(server.errors.read_text()[-2000:])
            raise

    def undisturbed(self, take: Callable[[], Result]) -> Result:
        """What `take` returns; taken again, some times, when the server could not keep up in it.

        It says so when it could not keep up in the last one either: `kept_up` is false there.
        """
        for attempt in range(ATTEMPTS):
            try:
                return take() | {"kept_up": True}
            except Disturbed as error:
                self.repeated.append(str(error))
                if attempt == ATTEMPTS - 1:
                    return error.result | {"kept_up": False}
        raise AssertionError("unreachable")


@contextlib.contextmanager
def rig(people: int, want: Collection[str] = ("postgres", "valkey")) -> Iterator[Rig]:
    """Engines, tables and people, gone afterwards."""
    var = Path(os.environ.get("BANKHUB_VAR_DIR", ROOT / "var"))
    folder = var / f"bench-{os.getpid()}"
    folder.mkdir(mode=0o711, parents=True)
    os.sched_setaffinity(0, {cores()[1]})  # engines inherit it: core 0 is the server's alone
    engines = EmbeddedEngines(folder, want, sync=False)
    try:
        made = Rig(folder, var / "bench-programs", engines, people)
        engines.start_blocking()
        try:
            asyncio.run(migrate(engines.database_url))
            asyncio.run(made.people.seed(engines.database_url))
            yield made
        finally:
            engines.stop_blocking()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Disturbed(BenchFailed):
    """The server could not take all that was offered for a while: nothing was lost, but the rate was not kept."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


ATTEMPTS = 3
REFUSALS = ("unavailable", "too_many_requests")  # temporary: sent again later
FLAWS = (
    "behind", "unaccounted", "uneven", "holes", "errors", "protocol_errors", "gap_frames", "closed", "refused", "byes",
)  # fmt: skip


def whole(result: Result) -> Result:
    """The report, if every message was delivered to everybody exactly once and nothing else happened."""
    flaws = {name: result[name] for name in FLAWS if result[name]}
    refused = flaws.pop("errors", 0) if result["error"] in REFUSALS else 0
    if not result["complete"] or result["entries"] != result["expected_entries"] or flaws:
        what = {n: result[n] for n in ("complete", "sent", "entries", "expected_entries", "error", "bye")}
        raise BenchFailed(f"the run is not whole: {flaws} {what}")
    if refused or result["overruns"]:
        raise Disturbed(f"{refused} messages refused at first, {result['overruns']} not sent in time", result)
    return result
