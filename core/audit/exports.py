"""Seals outside the database: a file that only grows, and a log event for the log store.

Whoever can write the database can cut off the end of a chain together with its seals; he cannot reach what has left.
One JSON object a line. Digests and signatures are base32, which no filter of logs takes for a phone number.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from core.audit.chain import Seal
from core.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """A seal as it was let out."""

    enterprise_id: int
    seal_no: int
    last_seq: int
    seal_digest: bytes


class Exports:
    """Where seals go. Lines of several processes do not mix: each write is one append."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, seals: Iterable[Seal]) -> None:
        """Append and log; on disk when this returns. Blocks. Raises `OSError`."""
        lines = [_line(seal) for seal in seals]
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "rb+") as file:
                torn = file.seek(0, os.SEEK_END) and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
                text = b"".join(orjson.dumps(line) + b"\n" for line in lines)
                file.write(b"\n" + text if torn else text)  # after a full disk or a power cut
                file.flush()
                os.fsync(file.fileno())
        for line in lines:
            log.info("audit.sealed", **line)


def seals_file(settings: Settings) -> Path:
    """Where this installation appends its seals."""
    return settings.audit_seals_file or settings.var_dir / "audit" / "seals.jsonl"


def read(path: Path) -> Iterator[Exported | str]:
    """What was let out, oldest first; a text for a line that cannot be read. Also reads logs with these events.

    A line that ends half-way is no fault: whoever wrote it has written its seals again.
    """
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if text.startswith(b"{") and not text.rstrip().endswith(b"}"):
                continue
            try:
                line = orjson.loads(text)
                if "seal_no" not in line:
                    continue  # another event of a log
                yield Exported(
                    int(line["enterprise_id"]),
                    int(line["seal_no"]),
                    int(line["last_seq"]),
                    base64.b32decode(line["seal"]),
                )
            except (KeyError, TypeError, ValueError):
                yield f"line {number} of the export cannot be read"


def _line(seal: Seal) -> dict[str, Any]:
    return {
        "enterprise_id": str(seal.enterprise_id),
        "seal_no": seal.seal_no,
        "last_seq": seal.last_seq,
        "digest": base64.b32encode(seal.digest).decode(),
        "seal": base64.b32encode(seal.own_digest()).decode(),
        "sealed_at": seal.sealed_at.isoformat(),
        "sealing_key": f"seals.{seal.key_version}",
        "signature": base64.b32encode(seal.signature).decode(),
    }
