"""`bankhub bench gateway [--json] [--quick]`: what the HTTP edge costs, beside a bare aiohttp handler.

docs/benchmarks.md says what every field means.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import asyncpg
import orjson

from core.logs import configure_logs
from core.settings import load
from gateway.sessions.passwords import Passwords
from tests.bench import build, machine
from tests.bench.build import NoCompiler
from tests.bench.measures import alternated
from tests.bench.processes import BenchFailed, Result, Server, python_server, run_client
from tests.bench.report import lines_of
from tests.bench.rig import Rig, rig

GOALS: dict[str, tuple[str, float]] = {
    "auth_overhead_us": ("<=", 150),
    "requests_per_s_vs_bare": (">=", 0.5),
}
PACKAGES = ("aiohttp", "uvloop", "asyncpg", "pydantic", "joserfc", "cryptography", "orjson", "redis")
ROWS = (
    ("auth_overhead_us", "µs of CPU a request, over a bare aiohttp handler"),
    ("bare_us", "  a bare request that does nothing"),
    ("nothing_us", "  an authenticated action that does nothing"),
    ("requests_per_s_vs_bare", "authenticated read, against a bare handler with the same SELECTs"),
    ("read_per_s", "  requests/s"),
    ("bare_read_per_s", "  bare: requests/s"),
    ("read_us", "  µs of CPU a request"),
    ("bare_read_us", "  bare: µs of CPU a request"),
    ("read_p50_ms", "  answered after ms, median"),
    ("read_p99_ms", "  answered after ms, 99 %"),
    ("login_per_s", "logins/s"),
    ("login_p50_ms", "  answered after ms, median"),
)
PASSWORD = "a password of the bench"
LOGINS = 64  # people who log in; more than connections, so that nobody does it twice at once


@dataclass(frozen=True)
class Plan:
    """Sizes and times of a run."""

    rounds: int = 3
    people: int = 100
    connections: int = 32
    warm_s: float = 1.0
    measure_s: float = 4.0
    login_connections: int = 8
    login_s: float = 4.0


QUICK = Plan(rounds=1, warm_s=0.5, measure_s=1.5, login_s=1.5)


def main(argv: Sequence[str]) -> int:
    """Runs the measures and prints them; 1 when one could not be taken."""
    parser = argparse.ArgumentParser(prog="bankhub bench gateway", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--rounds", type=int, help="rounds of each measure (default: 3, quick: 1)")
    words = parser.parse_args(argv)
    plan = QUICK if words.quick else Plan()
    if words.rounds:
        plan = Plan(**{**plan.__dict__, "rounds": words.rounds})
    configure_logs("warning")
    try:
        report = run(plan)
    except (BenchFailed, NoCompiler) as error:
        print(f"bench: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    report["quick"] = words.quick
    print(json.dumps(report, indent=2, ensure_ascii=False) if words.json else lines_of(report, ROWS, GOALS))
    return 0


def run(plan: Plan) -> Result:
    """All figures, with what they were made from."""
    began, load_before, busy_before = time.monotonic(), os.getloadavg()[0], machine.busy_s()
    with rig(plan.people) as made:
        client = build.http_client(Path(os.environ.get("BANKHUB_VAR_DIR", "var")) / "bench-programs")
        asyncio.run(_let_log_in(made))
        bench = _Bench(made, plan, client)
        rounds = [bench.round(number) for number in range(plan.rounds)]
    figures = figures_of(rounds)
    took_s, others_s = time.monotonic() - began, machine.busy_s() - busy_before - machine.own_s()
    return {
        **{name: machine.rounded(value) for name, value in figures.items()},
        "goals": {name: machine.met(GOALS[name], figures[name]) for name in GOALS},
        "client_headroom": machine.headroom({"gateway": rounds}),
        "machine": {**machine.described(), "load_average_before": load_before},
        "others_cpu": round(max(0.0, others_s / took_s), 2),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "plan": plan.__dict__,
        "took_s": round(took_s, 1),
        "runs": rounds,
    }  # fmt: skip


def figures_of(rounds: list[Result]) -> Result:
    """Medians over the rounds; differences and ratios within a round."""

    def over(value: Callable[[Result], float]) -> float:
        return machine.median(value(one) for one in rounds)

    return {
        "auth_overhead_us": over(lambda r: r["nothing"]["server_us"] - r["bare_nothing"]["server_us"]),
        "requests_per_s_vs_bare": over(lambda r: r["read"]["per_s"] / r["bare_read"]["per_s"]),
        "requests_per_cpu_s_vs_bare": over(lambda r: r["bare_read"]["server_us"] / r["read"]["server_us"]),
        "bare_us": over(lambda r: r["bare_nothing"]["server_us"]),
        "nothing_us": over(lambda r: r["nothing"]["server_us"]),
        "nothing_per_s": over(lambda r: r["nothing"]["per_s"]),
        "bare_nothing_per_s": over(lambda r: r["bare_nothing"]["per_s"]),
        "read_us": over(lambda r: r["read"]["server_us"]),
        "bare_read_us": over(lambda r: r["bare_read"]["server_us"]),
        "read_per_s": over(lambda r: r["read"]["per_s"]),
        "bare_read_per_s": over(lambda r: r["bare_read"]["per_s"]),
        "read_p50_ms": over(lambda r: r["read"]["p50_ms"]),
        "read_p99_ms": over(lambda r: r["read"]["p99_ms"]),
        "login_per_s": over(lambda r: r["login"]["per_s"]),
        "login_p50_ms": over(lambda r: r["login"]["p50_ms"]),
        "login_p99_ms": over(lambda r: r["login"]["p99_ms"]),
    }


class _Bench:
    """One run's servers and requests."""

    def __init__(self, made: Rig, plan: Plan, client: Path) -> None:
        self._made, self._plan, self._client = made, plan, client
        made.people.write_tokens(made.tokens, plan.people)
        self._tokens = made.tokens.read_text().split()

    def round(self, number: int) -> Result:
        """Every variant once."""
        variants: list[tuple[str, Callable[[], Result]]] = [
            ("bare_nothing", lambda: self._bare("/nothing")),
            ("nothing", lambda: self._gateway("bench.nothing.ask")),
            ("bare_read", lambda: self._bare("/me")),
            ("read", lambda: self._gateway("gateway.identity.me")),
            ("login", self._login),
        ]
        return alternated(self._made, variants, number)

    def _bare(self, path: str) -> Result:
        with python_server(
            "reference.bare_http", [self._made.engines.database_url], self._made.folder
        ) as server:
            people = self._made.people.people[: self._plan.people]
            return self._load(server, [_request(path, {"person_id": str(one)}) for one in people])

    def _gateway(self, action: str) -> Result:
        with self._server() as server:
            requests = [
                _request(f"/v1/{action}", {}, f"Authorization: Bearer {token}\r\n") for token in self._tokens
            ]
            return self._load(server, requests)

    def _login(self) -> Result:
        with self._server() as server:
            requests = [
                _request(
                    "/v1/gateway.identity.login",
                    {"login": f"bench-{i}", "password": PASSWORD, "device": f"bench-{i}"},
                )
                for i in range(LOGINS)
            ]
            return self._load(server, requests, self._plan.login_connections, self._plan.login_s)

    def _server(self) -> AbstractContextManager[Server]:
        return python_server("gateway_server", [], self._made.folder, self._made.environ(0))

    def _load(
        self, server: Server, requests: list[bytes], connections: int = 0, measure_s: float = 0.0
    ) -> Result:
        path = self._made.folder / "requests"
        path.write_bytes(b"".join(b"%d\n%s" % (len(one), one) for one in requests))
        try:
            return run_client(
                self._client, "http", server, requests=path,
                connections=connections or self._plan.connections,
                # every token once first: reading one and its grants is not what a request costs
                warm_count=0 if connections else len(requests),
                warm_s=self._plan.warm_s, measure_s=measure_s or self._plan.measure_s,
            )  # fmt: skip
        except BenchFailed as error:
            error.add_note(server.errors.read_text()[-2000:])
            raise


def _request(path: str, fields: object, more: str = "") -> bytes:
    body = orjson.dumps(fields)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _let_log_in(made: Rig) -> None:
    """Give some people one password, hashed as in production."""
    passwords = Passwords(load({}))
    hashed = await passwords.hash(PASSWORD)
    passwords.close()
    connection = await asyncpg.connect(made.engines.database_url, ssl=False)
    try:
        await connection.execute(
            "UPDATE gateway_people SET password_hash = $1 WHERE person_id = ANY($2)",
            hashed,
            made.people.people[:LOGINS],
        )
    finally:
        await connection.close()
