"""The demonstration's note, var/logins.json: who may log in with what, and which database it is loaded in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engines.state import write_private

if TYPE_CHECKING:
    from gateway.demo import DemoPerson

NOTE = "logins.json"


def write_demo(var: Path, database_url: str, people: Sequence[DemoPerson], client_id: str) -> None:
    """Note that the demonstration is loaded, its logins, and what its app calls itself."""
    logins = [
        {
            "login": person.login,
            "password": person.password,
            "name": person.name,
            "title": person.title,
            "enterprise": person.enterprise,
            "roles": list(person.roles),
            "phone": person.phone,
        }
        for person in people
    ]
    var.mkdir(exist_ok=True)
    note = {"database": _mark(database_url), "logins": logins, "client_id": client_id}
    write_private(var / NOTE, json.dumps(note, ensure_ascii=False, indent=2) + "\n")


def read_demo(var: Path, database_url: str | None = None) -> list[dict[str, Any]] | None:
    """The logins; None when the demonstration is not loaded (in this database, where one is given)."""
    try:
        note = json.loads((var / NOTE).read_bytes())
        if "client_id" not in note:
            return None  # loaded by a version that had no app: load what is missing
        if database_url is not None and note["database"] != _mark(database_url):
            return None
        return list(note["logins"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_client_id(var: Path) -> str | None:
    """The client_id of the demonstration's app; None: it is not loaded."""
    try:
        return str(json.loads((var / NOTE).read_bytes())["client_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mark(database_url: str) -> str:
    """Tells databases apart without naming them: user, port and name change with the installation, hosts move."""
    return sha256(
        database_url.rpartition("/")[2].encode() + database_url.partition("@")[0].encode()
    ).hexdigest()[:16]
