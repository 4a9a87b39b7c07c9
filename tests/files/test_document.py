"""docs/files.md is what people copy from: its commands run, its tables are the code's."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

from core.s3 import S3
from core.settings import Settings
from files.inspection.reasons import TEXTS
from files.service import FilesService
from tests.files.conftest import World

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```bash\n(.+?)\n```", TEXT, re.DOTALL)


@pytest.fixture
def more_settings(object_store: S3) -> dict[str, Any]:
    return {"files_direct_url": object_store.endpoint}


async def test_every_command_runs(world: World, tmp_path: Path) -> None:
    assert len(COMMANDS) == 6
    script = tmp_path / "all.sh"
    script.write_text("set -euo pipefail\n" + "\n".join(COMMANDS) + "\nset +x\necho ROOM=$ROOM\n")
    given = {"GATEWAY": world.url, "LOGIN": "zhangwei", "PASSWORD": world.people["zhangwei"].password}
    process = await asyncio.create_subprocess_exec(
        "bash", script, cwd=tmp_path, env=os.environ | given,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert (tmp_path / "first-six-bytes").read_bytes() == "姓名".encode()
    assert (tmp_path / "by-link.csv").read_bytes() == (tmp_path / "工资表.csv").read_bytes()
    found = {one["name"]: one for one in (await world.call("files.library.list")).json["files"]}
    assert set(found) == {"工资表.csv", "long.txt"}
    room = said.decode().rpartition("ROOM=")[2].strip()
    history = await world.call("im.messages.history", {"conversation_id": room})
    assert found["工资表.csv"]["file_id"] in history.body.decode()


def test_every_reason_is_in_its_table() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.*[\u4e00-\u9fff].*) \|$", TEXT, re.MULTILINE))
    assert told == {str(reason): text for reason, text in TEXTS.items()}
    for code in ("malware", "digest_mismatch", "length_required", "not_sealed"):
        assert f"| `{code}` |" in TEXT


def test_every_setting_is_in_its_table_with_its_default() -> None:
    told = dict(re.findall(r"^\| `(files_\w+)` \| ([^|]+) \|", TEXT, re.MULTILINE))
    fields = {name: one.default for name, one in Settings.model_fields.items() if name.startswith("files_")}
    assert {name: _said(name, value) for name, value in fields.items()} == told


def _said(name: str, value: Any) -> str:
    """As the table says a default."""
    if value is None or isinstance(value, bool):
        return "—" if value is None else str(value).lower()
    if name.endswith("_bytes_per_s"):
        return f"{value:,} B/s"
    if name.endswith("_s"):
        unit, length = next(u for u in (("d", 86400), ("h", 3600), ("s", 1)) if value >= u[1])
        return f"{value / length:g} {unit}"
    for unit, bits in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if name.endswith("_bytes") and value >= 1 << bits:
            return f"{value >> bits} {unit}"
    return f"{value:,}"


def test_every_job_and_metric_is_told(world: World) -> None:
    for job in world.service.jobs:
        assert f"| `{job.name}` |" in TEXT
    root = Path(FilesService.__module__.replace(".", "/")).parent
    source = "".join(
        path.read_text(encoding="utf-8") for path in (Path(__file__).parents[2] / root).rglob("*.py")
    )
    for metric in re.findall(r'"(bankhub_\w+)"', source):
        assert f"`{metric}`" in TEXT
    for event in re.findall(r'log\.(?:error|exception)\(\s*"([a-z_.]+)"', source):
        assert f"`{event}`" in TEXT or f"`{event.rpartition('.')[0]}.*`" in TEXT, event
