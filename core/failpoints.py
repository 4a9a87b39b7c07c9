"""Named places where a crash hurts, so that tests can crash exactly there.

A failpoint does nothing unless it is armed: by the environment, read once at import,

    BANKHUB_FAILPOINTS="hub.before_commit=kill@3;outbox.mid_delivery=error"

or by a test in process with `arm`. `kill` is SIGKILL to this process, `error` raises `FailpointError`; ``@n`` acts at
the n-th hit only, without it every hit acts.
"""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

ENVIRONMENT: Final = "BANKHUB_FAILPOINTS"

NAMES: Final = frozenset(
    {
        "hub.before_commit",  # rows written, nothing durable: the sender must not have been answered
        "hub.after_commit_before_ack",  # durable, not answered: the retry must be a duplicate
        "hub.after_ack_before_fanout",  # answered, not delivered: the others must find it by seq
        "outbox.mid_delivery",  # a handler's effect is committed, the outbox row not yet closed
        "audit.before_commit",  # rows have their places and their seal, nothing durable
        "jobs.after_run",  # a job's work is done, its row not yet closed
        "files.before_put",  # allowed to come, nothing stored
        "files.mid_put",  # bytes are on their way into the store
        "files.stored_before_row",  # an object that no row names
        "files.before_commit",  # the rows of a group of files are written, nothing durable
        "files.row_before_answer",  # a file that its sender does not know of
        "files.part_before_note",  # the store has a part (or a tail) that no row names
        "files.whole_before_row",  # parts are one object, the upload is still finishing
        "files.mid_check",  # a file is looked into, what is made of it is stored, no verdict written
        "files.before_sweep",  # contents are dropping, their objects still there
        "files.swept_before_rows",  # their objects are gone, their rows still there
    }
)

Action = Literal["kill", "error"] | Callable[[], Awaitable[None] | None]


class FailpointError(Exception):
    """An armed failpoint of kind `error` was hit."""


@dataclass(slots=True)
class _Armed:
    action: Action
    at: int | None
    hits: int = 0


_armed: dict[str, _Armed] = {}


async def failpoint(name: str) -> None:
    """Pass the place called `name`; see the module. Costs one dictionary test when nothing is armed."""
    if _armed:
        waiting = _hit(name)
        if waiting is not None:
            await waiting


def hit_sync(name: str) -> None:
    """The same for code that cannot await; an action that must be awaited cannot be armed here."""
    if _armed and _hit(name) is not None:
        raise TypeError(f"failpoint {name} is passed by code that cannot await")


def arm(name: str, action: Action, *, at: int | None = None) -> None:
    """Arm a failpoint: `kill`, `error`, or a function to call (and await). `at` counts from 1.

    Raises `ValueError` for a name that is not in `NAMES`: a misspelt failpoint would prove nothing.
    """
    if name not in NAMES:
        raise ValueError(f"there is no failpoint {name!r}; there are {', '.join(sorted(NAMES))}")
    if at is not None and at < 1:
        raise ValueError("hits are counted from 1")
    _armed[name] = _Armed(action, at)


def disarm() -> None:
    """Make every failpoint harmless again."""
    _armed.clear()


def arm_from(text: str) -> None:
    """Arm what `text` says: ``name=kill@3;name2=error``. Raises `ValueError` when it is malformed."""
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, equals, what = part.partition("=")
        kind, at_sign, count = what.strip().partition("@")
        if not equals or (at_sign and not count.isdigit()):
            raise ValueError(f"{part!r} is not name=kill or name=error, with @n or without")
        at = int(count) if at_sign else None
        if kind == "kill":
            arm(name.strip(), "kill", at=at)
        elif kind == "error":
            arm(name.strip(), "error", at=at)
        else:
            raise ValueError(f"{part!r}: a failpoint can kill or error")


def _hit(name: str) -> Awaitable[None] | None:
    armed = _armed.get(name)
    if armed is None:
        return None
    armed.hits += 1
    if armed.at is not None and armed.hits != armed.at:
        return None
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(armed.action, str):
        raise FailpointError(name)
    result = armed.action()
    return result if inspect.isawaitable(result) else None


arm_from(os.environ.get(ENVIRONMENT, ""))
