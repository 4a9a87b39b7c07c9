"""The script `./bankhub` in a checkout of its own, with a lock that installs nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = "/usr/bin:/bin"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Script, empty lock, and a front door that says what it was called with; uv is on PATH beside it."""
    path = tmp_path / "check out"  # with a space
    (path / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "bankhub", path / "bankhub")
    (path / "requirements.lock").write_text("")
    (path / "bankhub.py").write_text("import sys\nprint(sys.prefix, sys.argv[1:])\n")
    (path / "bin" / "uv").symlink_to(Path(sys.executable).parent / "uv")
    return path


def start(
    checkout: Path, *words: str, path: str | None = None, script: Path | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(script or checkout / "bankhub"), *words],
        env={
            "PATH": path or f"{checkout / 'bin'}:{Path(sys.base_prefix) / 'bin'}:{TOOLS}",
            "HOME": str(checkout),
        },
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    checkout: Path, *words: str, path: str | None = None, script: Path | None = None
) -> tuple[int, str, str]:
    process = start(checkout, *words, path=path, script=script)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_prepares_once_and_passes_its_words_on(checkout: Path) -> None:
    code, out, err = run(checkout, "a b", "--c")
    assert (code, out) == (0, f"{checkout}/.venv ['a b', '--c']\n")
    assert "installing requirements.lock" in err
    assert run(checkout, "d") == (0, f"{checkout}/.venv ['d']\n", "")


def test_two_at_once(checkout: Path) -> None:
    both = [start(checkout, word) for word in ("one", "two")]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("installing" in err for _, err in answers) == 1


def test_a_changed_lock_is_installed(checkout: Path) -> None:
    run(checkout)
    (checkout / "requirements.lock").write_text("# other\n")
    assert "installing" in run(checkout)[2]
    assert run(checkout)[2] == ""


def test_an_interrupted_installation_is_done_again(checkout: Path) -> None:
    run(checkout)
    (checkout / ".venv" / "requirements.lock").unlink()  # written last
    assert "installing" in run(checkout)[2]
    (checkout / ".venv" / "bin" / "python").unlink()  # the system's Python went away
    code, out, _ = run(checkout, "x")
    assert (code, out) == (0, f"{checkout}/.venv ['x']\n")


def test_through_a_link(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout / "bankhub")
    assert run(checkout, "x", script=link)[:2] == (0, f"{checkout}/.venv ['x']\n")


def test_names_on_path_that_do_not_run(checkout: Path) -> None:
    shims = checkout / "shims"
    program(shims / "python3", 'echo "pyenv: python3: command not found" >&2; exit 127')
    program(shims / "python3.14", "exit 1")
    program(shims / "python3.13", "exit 0")
    (shims / "python3.12").symlink_to(Path(sys.executable).resolve())
    path = f"{shims}:{checkout / 'bin'}:{TOOLS}"
    assert run(checkout, "x", path=path)[:2] == (0, f"{checkout}/.venv ['x']\n")


def test_no_python(checkout: Path) -> None:
    tools = checkout / "tools"
    tools.mkdir()
    for name in ("sh", "readlink", "cmp"):
        (tools / name).symlink_to(str(shutil.which(name)))
    code, out, err = run(checkout, path=str(tools))
    assert (code, out) == (1, "")
    assert "needs Python 3.11 or newer" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_checkout_that_cannot_be_written_to(checkout: Path) -> None:
    checkout.chmod(0o555)
    try:
        code, _, err = run(checkout)
    finally:
        checkout.chmod(0o755)
    assert code == 1
    assert "cannot write to" in err
