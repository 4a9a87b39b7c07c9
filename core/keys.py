"""Secrets this installation makes for itself at first start and keeps under ``var/keys``, mode 0600.

Containers get them from outside instead (``BANKHUB_CLUSTER_SECRET``, ``BANKHUB_KEYS_FILE``), the same for all. What
others on the machine can read, or what somebody copied out of an example, is not a secret: nothing starts with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Callable
from hashlib import sha256
from hmac import digest as hmac
from pathlib import Path
from typing import Final

from core.errors import Invalid
from core.settings import Settings

_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP
_SECRET_CHARACTERS: Final = 32
_DIFFERENT: Final = 10  # of them at least
_EXAMPLE: Final = re.compile(
    r"change.?me|default|example|password|s3cr3t|your.?secret|0123456789|abcdefgh", re.IGNORECASE
)


def keep(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of `path`, made and written once by whichever process comes first. Never readable by others."""
    try:
        return read_secret(path)
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        path.parent.chmod(0o700)
    made = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(make())
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(made, path)  # atomic, and it refuses to replace what another process made meanwhile
    finally:
        made.unlink()
    return read_secret(path)


def read_secret(path: Path) -> bytes:
    """The content of a file that only its owner and the owner's group can read. Raises `Invalid` for any other.

    The group may read because that is how Kubernetes hands a secret to a process that is not root.
    """
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & _OTHERS:
            raise Invalid(f"{path} is open to others: chmod 600, then change what is in it")
        return file.read()


def replace_secret(path: Path, content: bytes) -> None:
    """Write the whole file anew, mode 0600: readers see the old content or the new one, also after a power cut."""
    made = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    made.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def cluster_secret(settings: Settings) -> bytes:
    """The secret that all processes of one installation share. Raises `Invalid` for one that can be guessed."""
    if settings.cluster_secret is not None:
        secret = settings.cluster_secret.get_secret_value()
        if len(secret) < _SECRET_CHARACTERS or len(set(secret)) < _DIFFERENT or _EXAMPLE.search(secret):
            raise Invalid(
                f"BANKHUB_CLUSTER_SECRET can be guessed: {_SECRET_CHARACTERS} random characters or more, no example"
            )
        return secret.encode()
    return keep(settings.var_dir / "keys" / "cluster.secret", lambda: secrets.token_urlsafe(48).encode())


def derive(secret: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose (HKDF-SHA256 of RFC 5869, one block, purpose as info)."""
    extracted = hmac(b"bankhub", secret, sha256)
    return hmac(extracted, purpose.encode() + b"\x01", sha256)
