"""Secrets this installation makes for itself at first start and keeps under ``var/keys``, mode 0600.

Containers get them from outside instead (``BANKHUB_CLUSTER_SECRET``, ``BANKHUB_ACCESS_KEY_FILE``), the same for all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from hashlib import sha256
from hmac import digest as hmac
from pathlib import Path

from core.settings import Settings


def keep(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of `path`, made and written once by whichever process comes first. Never readable by others."""
    try:
        return path.read_bytes()
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
    return path.read_bytes()


def cluster_secret(settings: Settings) -> bytes:
    """The secret that all processes of one installation share."""
    if settings.cluster_secret is not None:
        return settings.cluster_secret.get_secret_value().encode()
    return keep(settings.var_dir / "keys" / "cluster.secret", lambda: secrets.token_urlsafe(48).encode())


def derive(secret: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose (HKDF-SHA256 of RFC 5869, one block, purpose as info)."""
    extracted = hmac(b"bankhub", secret, sha256)
    return hmac(extracted, purpose.encode() + b"\x01", sha256)
