"""`chat`: who and where, from what `up` noted; the rest is hub.chat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import typer

from core.errors import Unauthenticated, Unavailable
from house.demo import read_demo
from house.supervisor import read_note
from hub.chat import chat as talk
from hub.chat.shelf import DoorShelf

if TYPE_CHECKING:
    from core.settings import Settings


async def chat(settings: Settings, *, login: str, password: str | None, to: str | None) -> None:
    """Talk as `login`; without a password, the demonstration's. Raises `Unauthenticated` when there is none."""
    structlog.configure(processors=[_nothing])  # logs would stand between what people say
    note = read_note(settings.var_dir.absolute()) or {}
    if password is None and not note:  # else whatever else listens there would be told the demonstration's
        raise Unavailable("bankhub is not running here: ./bankhub up, or give --password")
    if password is None:
        logins = read_demo(settings.var_dir) or []
        password = next(
            (one["password"] for one in logins if login in (one["login"], one.get("phone"))), None
        )
    if password is None:
        raise Unauthenticated(
            f"no password for {login}: give --password (the demonstration's logins are known)"
        )
    code = await talk(
        gateway_url=note.get("gateway_url", f"http://{settings.gateway_host}:{settings.gateway_port}"),
        hub_url=note.get("hub_url", f"ws://{settings.hub_host}:{settings.hub_port}"),
        login=login,
        password=password,
        to=to,
        shelf=lambda account: DoorShelf(account, Path.cwd()),
    )
    if code:
        raise typer.Exit(code)


def _nothing(logger: object, method: str, event: object) -> str:
    raise structlog.DropEvent
