"""JavaScript that is not ours, for tests: installed once for all workers by a committed lock, or skipped aloud."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest


async def installed(folder: Path) -> Path:
    """A directory with the packages of `folder`'s package-lock.json, and its scripts."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip(
            f"node and npm are not here: {folder.parent.name} was not checked by unrelated JavaScript"
        )
    lock = (folder / "package-lock.json").read_bytes()
    place = Path(sys.prefix) / f"npm-{folder.parent.name}-{sha256(lock).hexdigest()[:16]}"
    if not (place / "node_modules").is_dir():
        made = Path(tempfile.mkdtemp(prefix="npm-", dir=place.parent))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(folder / name, made)
        npm = await asyncio.create_subprocess_exec(
            *("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
            cwd=made,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await npm.communicate()
        if npm.returncode:
            shutil.rmtree(made)
            pytest.skip(f"npm could not install packages: {said.decode(errors='replace')[-300:]}")
        try:
            made.rename(place)
        except OSError:  # another worker was faster
            shutil.rmtree(made)
    for script in folder.glob("*.mjs"):
        shutil.copy(script, place)
    return place
