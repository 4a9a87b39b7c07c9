"""Messages that carry files: what the hub asks of whoever keeps the files, and how both ways into a stream ask it.

A message and the references to its files are one transaction: `Carrier.usable` before it is decided, `attach` with its
entry, `release` with its recall. The hub knows neither what a file is nor which kinds of messages carry any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from core.db import Transaction
from core.errors import BankhubError, Invalid
from hub.streams.store import Entry
from hub.wire.codec import unpack


class Asked(Struct, frozen=True):
    """A message that wants to carry files."""

    enterprise_id: int
    person_id: int  # who says it
    kind: str
    body: Any  # as it was decoded
    file_ids: tuple[int, ...]


class Attached(Struct, frozen=True):
    """A file of an entry that is about to be committed."""

    file_id: int
    enterprise_id: int
    stream_id: int
    seq: int


class Files(Protocol):
    """Who keeps the files. Everything happens in the transaction of the message and is undone with it.

    All three are called with the message's stream locked. They lock rows of files in the order of their ids, and no
    stream of a conversation afterwards, so that two transactions never wait for each other. What they raise ends the
    transaction: a refusal of one message is an answer of `usable`, not an exception. (The group commit then stores what
    has to do with no file without them.)
    """

    async def usable(self, tx: Transaction, asked: Sequence[Asked]) -> Sequence[BankhubError | None]:
        """For each message, None if this person may send it with these files, else why not.

        `NotFound`: no such file, or not for this person. `Conflict`: it is not ready, or the message says something
        else of it than it is. Until `tx` ends nobody can take away the files of a message that was answered None.
        """

    async def attach(self, tx: Transaction, rows: Sequence[Attached]) -> None:
        """These entries refer to these files from now on; all of them were `usable` in this transaction."""

    async def release(self, tx: Transaction, erased: Sequence[tuple[int, int]]) -> None:
        """The bodies of these entries (stream, seq), which carried files, are gone and so are their references."""


class Carrier:
    """The port, together with what says which files a message carries: `hub.api.StreamPolicy.carried`."""

    def __init__(self, files: Files | None, carried: Callable[[str, Any], tuple[int, ...]]) -> None:
        self._files, self._carried = files, carried

    @property
    def files(self) -> Files:
        """The port, once `asked` or `carries` has said that it is needed."""
        assert self._files is not None, "a message with files was let in where nobody keeps files"
        return self._files

    def asked(self, enterprise_id: int, person_id: int, kind: str, body: Any) -> Asked | None:
        """What has to be asked for a message; None for one without files. Raises `Invalid` where nobody keeps any."""
        file_ids = self._carried(kind, body)
        if not file_ids:
            return None
        if self._files is None:
            raise Invalid("messages with files are not served here", detail={"kind": kind})
        return Asked(enterprise_id, person_id, kind, body, file_ids)

    def carries(self, entry: Entry) -> bool:
        """Whether a stored entry refers to files."""
        return (
            self._files is not None
            and entry.body is not None
            and bool(self._carried(entry.kind, unpack(entry.body)))
        )


def attached(asked: Asked, entry: Entry) -> list[Attached]:
    """The references of a message, now that it has its place."""
    return [Attached(f, entry.enterprise_id, entry.stream_id, entry.seq) for f in asked.file_ids]


def no_files(kind: str, body: Any) -> tuple[int, ...]:
    """Where no kind of message carries anything."""
    return ()
