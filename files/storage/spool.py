"""Disk that a file's bytes lie on for as long as they are worked on: files without a name, gone with who has them open.

They hold people's files in plain, so there is nothing to sweep and nothing to find after a kill; the folder
(`files_spool_dir`, or spool/ in `var_dir`) is for its file system: room on disk, where /tmp may be memory.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from core.settings import Settings


class Spool:
    """The folder, which is made when it is not there; only its owner may look into it."""

    def __init__(self, settings: Settings) -> None:
        self.folder: Path = settings.files_spool_dir or settings.var_dir / "spool"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def file(self) -> IO[bytes]:
        """A new empty one, to be closed by the caller."""
        return tempfile.TemporaryFile(buffering=0, dir=self.folder)


def write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    """All of it: a write on a disk that is nearly full takes a part and does not say so. Raises `OSError`."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
