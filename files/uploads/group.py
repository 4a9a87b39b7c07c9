"""What becomes of files that come whole at one moment, decided together and without I/O, for one enterprise.

Each is decided as if those before it were there already: the same key, the same content and the room that is left are
seen within the group as they are seen in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.errors import Conflict
from files.api import Keep
from files.library import store
from files.library.store import NewContent, NewFile
from files.parts import Row
from files.uploads import rules


@dataclass(slots=True)
class Group:
    """What is known of an enterprise, and what its files of this group make of it."""

    enterprise_id: int
    now: datetime
    new_id: Callable[[], int]
    quota: int
    quota_of_all: int
    own_key: bool
    used: Mapping[int, int]  # bytes, by person
    used_by_all: int
    same: dict[str, tuple[int, str | None]]  # (content, its facts) by identity: checked and kept
    lost: dict[str, int]  # contents by identity, whose object is gone: what comes takes their place
    earlier: dict[tuple[int, str], Row]  # files by person and key
    contents: list[NewContent] = field(default_factory=list)
    files: list[NewFile] = field(default_factory=list)
    taken: dict[int, tuple[int, int]] = field(default_factory=dict)  # (bytes, files) by person
    healed: list[tuple[int, int]] = field(default_factory=list)  # (lost content, the one in its place)
    spare: bool = False  # some content was there already: its new object goes

    @property
    def taken_by_all(self) -> tuple[int, int]:
        """(bytes, files) of all files of the group."""
        return sum(size for size, _ in self.taken.values()), len(self.files)

    def add(self, person_id: int, asked: Keep, *, at_once: bool) -> tuple[Row, bool]:
        """(the file's row, whether it is new); `at_once`: nobody has to look into it first.

        Raises `Conflict` for a key that made another file and for what ought to be encrypted, `Forbidden` where there
        is no room; then nothing of the group has changed.
        """
        if asked.key is not None and (row := self.earlier.get((person_id, asked.key))) is not None:
            if row["upload_digest"] != asked.sha256 or row["name"] != asked.name:
                raise Conflict("this key was used for another file", detail={"file_id": str(row["file_id"])})
            return row, False
        if self.own_key and asked.wrapped_key is None:
            raise Conflict(
                "this enterprise's files are encrypted from now on: send it again",
                detail={"code": rules.NOT_SEALED},
            )
        own, files = self.taken.get(person_id, (0, 0))
        rules.room(
            asked.size_bytes, max_bytes=asked.size_bytes, used=self.used.get(person_id, 0) + own, quota=self.quota,
            used_by_all=self.used_by_all + self.taken_by_all[0], quota_of_all=self.quota_of_all,
        )  # fmt: skip
        self.taken[person_id] = own + asked.size_bytes, files + 1
        row = self._row(person_id, asked, at_once=at_once)
        if asked.key is not None:
            self.earlier[person_id, asked.key] = row
        return row, True

    def _row(self, person_id: int, asked: Keep, *, at_once: bool) -> dict[str, Any]:
        content_id, facts = self._content(asked, at_once=at_once)
        file_id, ready = self.new_id(), self.contents[-1].state != store.RAW
        file = NewFile(
            file_id=file_id, enterprise_id=self.enterprise_id, person_id=person_id,
            upload_key=asked.key or f"file-{file_id}", content_id=content_id, name=asked.name,
            size_bytes=asked.size_bytes, declared_type=asked.media_type, kind=asked.kind,
            state=store.READY if ready else store.CHECKING, cleaned=0, sha256_digest=asked.sha256,
            sm3_digest=asked.sm3, created_at=self.now, settled_at=self.now if ready else None,
        )  # fmt: skip
        self.files.append(file)
        return file._asdict() | {
            "upload_digest": asked.sha256, "stored_bytes": asked.size_bytes, "facts": facts, "reason": None,
        }  # fmt: skip

    def _content(self, asked: Keep, *, at_once: bool) -> tuple[int, str | None]:
        """The file's content and its facts; last of `contents` is then what its object belongs to."""
        sealed, new = asked.wrapped_key is not None, self.new_id()
        identity = store.identity_of(asked.sha256, asked.size_bytes, asked.kind, own_key=sealed)
        found = self.same.get(identity)
        if found is not None:
            state, own, self.spare = store.DROPPING, f"dropping:{new}", True
        elif at_once:
            state, own = store.KEPT, identity
            self.same[identity] = new, None
            if identity in self.lost:
                self.healed.append((self.lost.pop(identity), new))
        else:
            state, own = store.RAW, f"raw:{new}"
        self.contents.append(
            NewContent(
                new, self.enterprise_id, own, state, asked.object_id, asked.size_bytes, asked.sha256, None,
                asked.wrapped_key, self.now,
            )
        )  # fmt: skip
        return found or (new, None)
