"""requirements.lock: made by `bankhub lock`, checked by `bankhub check` (docs/decisions/0001)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
_COMPILE = (
    *("pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-header", "--no-annotate", "--no-emit-index-url", "--group", "dev"),
)


def make(*, upgrade: bool = False) -> int:
    """Resolve pyproject.toml into the lock, keeping versions unless `upgrade`. Returns the exit code."""
    uv = Path(sys.executable).parent / "uv"
    argv = [str(uv), *_COMPILE, *(["--upgrade"] if upgrade else []), "pyproject.toml", "-o", LOCK.name]
    environ = {"UV_SYSTEM_CERTS": "1", **os.environ}
    return subprocess.run(argv, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, check=False).returncode


def faults(project_text: str, lock_text: str) -> list[str]:
    """Why this lock does not serve this pyproject.toml."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads(project_text)
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock_text, re.MULTILINE)
    locked = {canonicalize_name(name): version for name, version in pinned}
    found = []
    for text in (*project["project"]["dependencies"], *project["dependency-groups"]["dev"]):
        wanted = Requirement(text)
        version = locked.get(canonicalize_name(wanted.name))
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            found.append(f"{text} is asked for, {version or 'nothing'} is locked: run `bankhub lock`")
    if "://" in lock_text or re.search(r"^\s*-(-index|-extra|-find|i|f)\b", lock_text, re.MULTILINE):
        found.append("the lock names a host")
    unhashed = [name for name, block in _blocks(lock_text) if "--hash=sha256:" not in block]
    return found + [f"{name} has no hash" for name in unhashed]


def _blocks(lock_text: str) -> list[tuple[str, str]]:
    parts = re.split(r"^(?=[A-Za-z0-9])", lock_text, flags=re.MULTILINE)
    return [(part.partition("==")[0], part) for part in parts if "==" in part]


if __name__ == "__main__":
    bad = faults((ROOT / "pyproject.toml").read_text(), LOCK.read_text())
    sys.stdout.writelines(f"{line}\n" for line in bad)
    raise SystemExit(1 if bad else 0)
