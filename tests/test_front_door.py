"""`bankhub` as people type it: up, down, up again, and what happens when things are killed or taken."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.embedded import EmbeddedEngines
from core.s3 import S3

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class House:
    """An installation of its own."""

    var: Path
    gateway_port: int
    hub_port: int

    def run(self, *words: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "bankhub.py"), *words],
            env=self._environ(environ or {}),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *words: str, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "bankhub.py"), *words],
            env=self._environ(environ),
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def up(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("up", "--detach", *words)

    def note(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.var / "up.json").read_text())
        return found

    def log_in(self) -> dict[str, Any]:
        person = json.loads((self.var / "logins.json").read_text())["logins"][0]
        body = {"login": person["login"], "password": person["password"], "device": "test"}
        return self.post("gateway.identity.login", body)

    def post(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.gateway_port}/v1/{action}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def file(self, path: str, data: bytes | None = None) -> bytes:
        """Put a file through the gateway's doors, or get one."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.gateway_port}/files/{path}",
            data,
            {"Authorization": f"Bearer {self.log_in()['access_token']}", "Content-Type": "text/csv"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bytes(answer.read())

    def workers(self) -> list[int]:
        """Processes that the supervisor started to serve."""
        return [pid for pid in children(self.note()["pid"]) if command(pid).endswith(b"\0serve\0")]

    def _environ(self, more: dict[str, str]) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("BANKHUB_")}
        return {
            **ours,
            "BANKHUB_VAR_DIR": str(self.var),
            "BANKHUB_GATEWAY_PORT": str(self.gateway_port),
            "BANKHUB_HUB_PORT": str(self.hub_port),
            **more,
        }


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], object], timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "too late"
        time.sleep(0.02)


def free_port() -> int:
    """A port that nobody has now, outside the range that the kernel gives to clients."""
    while True:
        port = 23_000 + int.from_bytes(os.urandom(2), "big") % 9_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@pytest.fixture(scope="module")
def house(open_directory: Path) -> Iterator[House]:
    """One installation for the tests of this module, up or down as the last one left it."""
    house = House(open_directory / "house", free_port(), free_port())
    yield house
    house.run("down")


@pytest.fixture
def running(house: House) -> House:
    """The installation, up."""
    if not (house.var / "up.json").exists() or not alive(house.note()["pid"]):
        answer = house.up()
        assert answer.returncode == 0, answer.stdout + answer.stderr
    return house


@pytest.fixture
def resting(house: House) -> House:
    """The installation, down."""
    house.run("down")
    return house


def test_up_says_where_things_are_and_who_may_log_in(running: House) -> None:
    text = (running.var / "log" / "up.log").read_text()
    assert f"http://127.0.0.1:{running.gateway_port}" in text
    assert f"ws://127.0.0.1:{running.hub_port}" in text
    assert f"http://127.0.0.1:{running.gateway_port}/files/upload" in text
    assert "./bankhub chat --as zhangwei" in text
    assert running.log_in()["access_token"]
    assert (running.var / "logins.json").stat().st_mode & 0o077 == 0


def test_the_examples_of_files_run_as_they_are_written(running: House, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    script = "set -euo pipefail\n" + "\n".join(re.findall(r"```bash\n(.+?)\n```", text, re.DOTALL))
    person = json.loads((running.var / "logins.json").read_text())["logins"][0]
    given = {
        "GATEWAY": f"http://127.0.0.1:{running.gateway_port}",
        "LOGIN": person["login"],
        "PASSWORD": person["password"],
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=os.environ | given, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_second_up_finds_everything(running: House) -> None:
    house = running
    logins = (house.var / "logins.json").read_text()
    kept = json.loads(house.file("upload?name=a.csv", b"a,b\n1,2\n"))
    assert kept["state"] == "ready"
    assert house.run("down").stdout == "bankhub has stopped\n"
    assert house.run("down").stdout == "bankhub is not running\n"
    assert house.up().returncode == 0
    assert (house.var / "logins.json").read_text() == logins
    assert house.log_in()["access_token"]
    assert house.file(kept["file_id"]) == b"a,b\n1,2\n"
    again = house.run("up")
    assert again.returncode == 1
    assert "already running" in again.stderr


def test_a_killed_worker_is_replaced(running: House) -> None:
    (worker,) = running.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: running.workers() not in ([], [worker]), 10)

    def answers() -> bool:
        try:
            return bool(running.log_in())
        except (urllib.error.URLError, ConnectionError):
            return False

    wait_until(answers, 20)


def test_a_killed_supervisor_leaves_nothing_behind_and_up_recovers(running: House) -> None:
    supervisor = running.note()["pid"]
    family = [supervisor, *children(supervisor)]
    assert len(family) == 5  # and PostgreSQL, Valkey, SeaweedFS, one worker
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in family), 6)
    assert running.up().returncode == 0
    assert running.log_in()["access_token"]


def test_verbs_beside_a_running_house(running: House) -> None:
    for words in (
        ["migrate"],
        ["verify"],
        ["verify", "audit"],
        ["doctor"],
        ["keys", "--rotate", "tokens", "--at-once"],
    ):
        answer = running.run(*words)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    assert running.log_in()["access_token"]


def test_several_workers_share_the_ports(resting: House) -> None:
    house = resting
    assert house.up("--workers", "2").returncode == 0
    assert len(house.workers()) == 2
    for _ in range(8):
        assert house.log_in()["access_token"]
    supervisor = house.note()["pid"]
    os.kill(supervisor, signal.SIGTERM)
    wait_until(lambda: not alive(supervisor), 30)
    assert not (house.var / "up.json").exists()


@pytest.mark.parametrize("name", ["gateway", "hub"])
def test_a_taken_port(resting: House, name: str) -> None:
    house = resting
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # like another bankhub of this user
        other.bind(("127.0.0.1", getattr(house, f"{name}_port")))
        other.listen()
        answer = house.run("up")
    assert answer.returncode == 1
    assert re.fullmatch(rf"bankhub: port \d+ .* is taken; choose another: --{name}-port N\n", answer.stderr)


def test_verbs_that_need_no_house(resting: House) -> None:
    house = resting
    for words, said in (
        (["--help"], "chat"),
        (["config"], "BANKHUB_DATABASE_URL"),
        (["openapi"], '"openapi": "3.1.0"'),
        (["migrate"], "the database is up to date"),
        (["verify"], "every chain holds"),
        (["verify", "audit"], "every chain holds"),
        (["keys"], "columns.1"),
        (["doctor"], "all is well"),
        (["doctor", "--outbox"], "nothing is parked"),
    ):
        answer = house.run(*words)
        assert (answer.returncode, said in answer.stdout, answer.stderr) == (0, True, ""), (words, answer)
    for words in (["nonsense"], ["chat"], ["up", "--nonsense"]):
        assert house.run(*words).returncode == 2
    assert (
        "hunter2"
        not in house.run("config", environ={"BANKHUB_DATABASE_URL": "postgresql://a:hunter2@h/d"}).stdout
    )
    assert house.run("serve").returncode == 1


@pytest.fixture
def external(engines: EmbeddedEngines, object_store: S3, empty_database: str) -> dict[str, str]:
    """Settings that name engines which others run."""
    return {
        "BANKHUB_DATABASE_URL": empty_database,
        "BANKHUB_REDIS_URL": engines.redis_url,
        "BANKHUB_S3_ENDPOINT_URL": object_store.endpoint,
        "BANKHUB_S3_ACCESS_KEY": object_store.access_key,
        "BANKHUB_S3_SECRET_KEY": object_store.secret_key,
        "BANKHUB_S3_BUCKET": object_store.bucket,
    }


def test_external_engines_replace_ours(resting: House, external: dict[str, str]) -> None:
    house = resting
    answer = house.run("up", "--detach", environ=external)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "external engines" in answer.stdout
    assert children(house.note()["pid"]) == house.workers()
    assert house.log_in()["access_token"]
    house.run("down")


def test_serve_is_one_process_that_ends_in_order(resting: House, external: dict[str, str]) -> None:
    house = resting
    house.run("migrate", environ=external)
    assert "there is no service bank" in house.run("serve", "--roles", "hub,bank", environ=external).stderr
    process = house.start("serve", "--roles", "gateway,im", environ=external)
    url = f"http://127.0.0.1:{house.gateway_port}/readyz"
    wait_until(lambda: answers(url), 30)
    assert not listens(house.hub_port)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_mistyped_setting(house: House) -> None:
    answer = house.run("config", environ={"BANKHUB_DATABASE_URI": "x"})
    assert answer.returncode == 1
    assert "BANKHUB_DATABASE_URL" in answer.stderr
