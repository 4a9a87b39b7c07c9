"""`check` and `test`: the same for people and CI."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_RUFF = (sys.executable, "-m", "ruff")
_LINTER = "from importlinter.cli import lint_imports_command as run; run()"
CHECKS: dict[str, tuple[str, ...]] = {
    "types": (sys.executable, "-m", "mypy", "--no-error-summary", "."),  # the slowest, so it begins first
    "format": (*_RUFF, "format", "--check", "--quiet", "."),
    "lint": (*_RUFF, "check", "--quiet", "."),
    "floors": (sys.executable, "-c", _LINTER, "--no-logo", "--cache-dir", ".mypy_cache/import_linter"),
    "house": (sys.executable, "-m", "house.lints"),
    "lock": (sys.executable, "-m", "house.lock"),
}


def check(*, fix: bool = False) -> int:
    """Run every check at once, print what they found; 0 when nothing was found."""
    if fix:
        subprocess.run([*_RUFF, "check", "--quiet", "--fix", "."], cwd=ROOT, check=False)
        subprocess.run([*_RUFF, "format", "--quiet", "."], cwd=ROOT, check=False)
    began = time.monotonic()
    running = {
        name: subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name, argv in CHECKS.items()
    }
    bad = []
    for name, process in running.items():
        output, _ = process.communicate()
        if process.returncode:
            bad.append(name)
            _say(f"--- {name}\n{output.rstrip()}")
    took = f"{time.monotonic() - began:.1f} s"
    _say(
        f"check: {', '.join(bad)} failed ({took})" if bad else f"check: {', '.join(running)} passed ({took})"
    )
    return 1 if bad else 0


def test(arguments: Sequence[str]) -> int:
    """`check`, then every test on every core; with arguments, pytest alone with these. Returns the exit code."""
    pytest = [sys.executable, "-m", "pytest"]
    if arguments:
        return subprocess.run([*pytest, *arguments], cwd=ROOT, check=False).returncode
    checked = check()
    workers = str((os.cpu_count() or 2) + 1)  # many tests wait for processes to start and for time-outs
    whole = ("-q", "-n", workers, "--dist", "worksteal", "--matrix=docs/security.md")
    tested = subprocess.run([*pytest, *whole], cwd=ROOT, check=False).returncode
    return checked or tested


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
