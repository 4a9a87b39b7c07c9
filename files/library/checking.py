"""Looks into files that have come, before anybody sees them: digest, type, malware, pictures.

What is read is what the store has, so whatever way the bytes came, the verdict is about what people will get. Nothing
is written until the verdict is there, in one transaction (`files.library.settling`); who is killed before it leaves
objects that nobody knows, and the next one begins anew. A scanner or workshop that does not answer leaves the file
where it is: not visible.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, Final

import structlog

from core.access import service_principal
from core.db import Record
from core.errors import BankhubError
from core.failpoints import failpoint
from files import api
from files.doors.body import Digests, Ends
from files.inspection.kinds import BY_EXTENSION, BY_NAME, Kind, Work
from files.inspection.names import extension_of
from files.inspection.reasons import Reason
from files.inspection.rules import Policy, Verdict, confirm, decide
from files.inspection.scanner import Infected, base_of
from files.inspection.values import Document, Images, Listing, Office, Picture, Unreadable
from files.inspection.workshop import Workshop, policy_of
from files.library import store
from files.library.lanes import Lane
from files.storage.bucket import CHUNK_BYTES
from files.storage.keys import content_key
from files.storage.spool import write_all

if TYPE_CHECKING:
    from core.runtime import Runtime
    from files.inspection.scanner import Scanner
    from files.sealing.sealer import Sealer
    from files.storage.bucket import Bucket
    from files.storage.spool import Spool

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 2  # of each lane, side by side: each may take a core and its size on disk
_SMALL_BYTES: Final = (
    8 << 20
)  # up to it a file has slots that no film can hold: it is looked into in a moment
_CALL_S: Final = 60_000
_PIECE_BYTES: Final = 1 << 20  # of a file that is read to be checked


@dataclass(slots=True)
class _Found:
    """What came of looking."""

    verdict: Verdict | None = None
    reason: str | None = None  # why it is not let through
    facts: dict[str, Any] = field(default_factory=dict)
    sha256: bytes = b""
    size_bytes: int = 0
    scanned: str | None = None
    cleaned: api.Made | None = None
    variants: list[api.Made] = field(default_factory=list)


class Checker:
    """One a process."""

    def __init__(
        self, runtime: Runtime, bucket: Bucket, sealer: Sealer, workshop: Workshop, scanner: Scanner | None,
        spool: Spool,
    ) -> None:  # fmt: skip
        self._runtime, self._bucket, self._sealer = runtime, bucket, sealer
        self._workshop, self._scanner, self._spool = workshop, scanner, spool
        self._policy = policy_of(runtime.settings)
        self._small, self._large = Lane(_AT_ONCE), Lane(_AT_ONCE)
        self._running: dict[int, asyncio.Task[None]] = {}

    def soon(self, file_id: int, enterprise_id: int) -> None:
        """Look into it when its turn comes; once, however often it is asked for."""
        if file_id not in self._running:
            task = asyncio.get_running_loop().create_task(
                self._guarded(file_id, enterprise_id), name="files.check"
            )
            self._running[file_id] = task
            task.add_done_callback(lambda _: self._running.pop(file_id, None))

    async def settles(self, file_id: int, wait_s: float) -> None:
        """Until it has been looked into here, or `wait_s` are over (it may be in work elsewhere)."""
        running = self._running.get(file_id)
        if running is None:
            await asyncio.sleep(min(wait_s, 0.1))
        else:
            await asyncio.wait([running], timeout=wait_s)

    async def close(self) -> None:
        """Let go of what runs."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _guarded(self, file_id: int, enterprise_id: int) -> None:
        try:
            row = await self._waiting(file_id, enterprise_id)
            if row is not None:
                lane = self._small if row["stored_bytes"] <= _SMALL_BYTES else self._large
                async with lane.turn(row["person_id"]):
                    await self.check(file_id, enterprise_id)
        except BankhubError as error:
            log.warning("files.not_checked", file_id=file_id, code=error.code)  # the job comes back to it
        except Exception:
            log.exception("files.check_broken", file_id=file_id)

    async def _waiting(self, file_id: int, enterprise_id: int) -> Record | None:
        """The file, if it is to be looked into."""
        row = (await store.files(self._runtime.db, enterprise_id, [file_id])).get(file_id)
        return row if row is not None and row["state"] == store.CHECKING else None

    async def check(self, file_id: int, enterprise_id: int) -> None:
        """Look into a file and write what came of it. Raises `Unavailable` where something did not answer."""
        row = await self._waiting(file_id, enterprise_id)
        if row is None:
            return
        with ExitStack() as held:
            found = await self._look(row, held)
        await failpoint("files.mid_check")
        refused = found.reason is not None
        kind = found.verdict.kind if found.verdict is not None else None
        await self._runtime.calls.call(
            api.Settle(
                file_id=file_id, state="quarantined" if refused else "ready", reason=found.reason,
                kind=kind.name if kind is not None and not refused else row["kind"], sha256=found.sha256,
                size_bytes=found.size_bytes, facts=found.facts, cleaned=None if refused else found.cleaned,
                variants=[] if refused else found.variants, scanned=found.scanned,
            ),
            principal=service_principal(enterprise_id, self._runtime.clock.now_ms() + _CALL_S, "files"),
        )  # fmt: skip

    async def _look(self, row: Record, held: ExitStack) -> _Found:
        found, asked = _Found(), BY_EXTENSION.get(extension_of(row["name"]))
        copy = None  # for the workshop; of a kind that nobody looks into, what passes is enough
        if asked is not None and asked.work is not Work.NONE:
            copy = held.enter_context(self._spool.file())
        known = row["kind"] is not None  # then a request has brought all of it, and was looked at on its way
        digests, ends = Digests(sm3=row["sm3_digest"] is not None), Ends()
        if self._scanner is not None:
            found.scanned = await base_of(self._scanner)
        chunks = self._tee(row, copy, digests, ends)
        verdict = Infected("") if self._scanner is None else await self._scanner.scan(chunks)
        if self._scanner is None:
            async for _ in chunks:
                pass
        found.sha256, found.size_bytes = digests.sha256, row["stored_bytes"]
        if (row["upload_digest"] is not None and row["upload_digest"] != found.sha256) or (
            not known and row["sm3_digest"] is not None and row["sm3_digest"] != digests.sm3
        ):
            found.reason = "digest_mismatch"
        elif self._scanner is not None and isinstance(verdict, Infected):
            log.warning("files.malware", file_id=row["file_id"], enterprise_id=row["enterprise_id"])
            found.reason = "malware"
        if found.reason is None:
            declared = "" if known else row["declared_type"] or ""
            found.verdict = await asyncio.to_thread(
                decide, row["name"], declared, ends.head, ends.tail, row["stored_bytes"], self._policy
            )
            if found.verdict.kind is None:
                found.reason = str(found.verdict.refusal)
            elif found.verdict.kind.work is not Work.NONE:
                assert copy is not None, "a name that asks for no work has become a kind that does"
                await self._work(row, found.verdict.kind, copy.fileno(), found)
        return found

    async def _tee(
        self, row: Record, copy: IO[bytes] | None, digests: Digests, ends: Ends
    ) -> AsyncIterator[bytes]:
        """The content as the store has it, opened, copied and digested on its way."""
        async with self._bucket.get(content_key(row["object_id"])) as content:
            chunks = content.chunks()
            if row["wrapped_key"] is not None:
                key = self._sealer.open_key(row["enterprise_id"], row["object_id"], row["wrapped_key"])
                chunks = key.unseal(chunks, 0)
            async for chunk in _gathered(chunks):
                await asyncio.to_thread(_take, chunk, copy, digests, ends)
                yield chunk

    async def _work(self, row: Record, kind: Kind, file: int, found: _Found) -> None:
        """What this kind asks for; `Unreadable` is a finding like any other."""
        match kind.work:
            case Work.IMAGE:
                with self._spool.file() as clean:
                    seen = await self._workshop.image(file, clean.fileno())
                    await self._image(row, seen, clean, found)
            case Work.PDF:
                await self._pdf(row, await self._workshop.pdf(file), found)
            case Work.SOUND:
                sound = await self._workshop.sound(file)
                if isinstance(sound, Unreadable):
                    found.reason = str(Reason.UNREADABLE)
                else:
                    found.facts = {"duration_ms": sound.length_ms}
            case Work.OFFICE:
                _opened(await self._workshop.office(file), found, self._policy)
            case Work.ARCHIVE:
                _opened(await self._workshop.archive(file), found, self._policy)

    async def _image(self, row: Record, seen: Images | Unreadable, clean: IO[bytes], found: _Found) -> None:
        if isinstance(seen, Unreadable):
            found.reason = str(Reason.PIXELS if seen.why == "pixels" else Reason.UNREADABLE)
            return
        found.facts = {"width": seen.width, "height": seen.height, "colour": seen.placeholder}
        if seen.cleaned == "converted" and found.verdict is not None:
            found.verdict = replace(found.verdict, kind=BY_NAME["jpeg"])
        await self._keep_clean(row, clean, found)
        await self._add(row, "thumbnail", seen.thumbnail, found)
        await self._add(row, "preview", seen.preview, found)

    async def _pdf(self, row: Record, seen: Document | Unreadable, found: _Found) -> None:
        if isinstance(seen, Unreadable):
            found.reason = str(Reason.UNREADABLE)
            return
        _opened(seen, found, self._policy)
        if found.reason is not None:
            return
        found.facts = {"pages": seen.pages, "encrypted": seen.encrypted}
        if seen.preview is not None:
            await self._add(row, "preview", seen.preview, found)

    async def _keep_clean(self, row: Record, clean: IO[bytes], found: _Found) -> None:
        """Store the picture without what tells about its photographer, where that is another one."""
        digest = await asyncio.to_thread(_digest_of, clean)
        if digest == found.sha256:
            return
        size = os.fstat(clean.fileno()).st_size
        found.cleaned = await self._put(row, "original", "", _read(clean), size)
        found.sha256, found.size_bytes = digest, size

    async def _add(self, row: Record, variant: api.Variant, picture: Picture, found: _Found) -> None:
        made = await self._put(row, variant, picture.media_type, _once(picture.data), len(picture.data))
        found.variants.append(made)

    async def _put(
        self, row: Record, variant: api.Variant, media_type: str, chunks: AsyncIterator[bytes], size: int
    ) -> api.Made:
        object_id, wrapped_key, stored_bytes = self._runtime.ids.next(), None, size
        if row["wrapped_key"] is not None:
            key = self._sealer.new_key(row["enterprise_id"], object_id)
            chunks, stored_bytes, wrapped_key = key.seal(chunks, 0), key.stored_bytes(size), key.wrapped
        await self._bucket.put(content_key(object_id), chunks, stored_bytes)
        return api.Made(
            variant=variant,
            object_id=object_id,
            media_type=media_type,
            size_bytes=size,
            wrapped_key=wrapped_key,
        )


def _opened(seen: Document | Office | Listing | Unreadable, found: _Found, policy: Policy) -> None:
    """What was found in a document or an archive."""
    if isinstance(seen, Unreadable):
        found.reason = str(Reason.UNREADABLE)
        return
    assert found.verdict is not None
    found.verdict = confirm(found.verdict, seen, policy)
    if found.verdict.kind is None:
        found.reason = str(found.verdict.refusal)
    elif isinstance(seen, Listing):
        items = [{"name": i.name, "size": i.size, "folder": i.folder} for i in seen.items]
        found.facts = {"entries": seen.entries, "inflated": seen.inflated, "items": items}


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same in larger pieces: to hand a piece to a thread costs as much as to digest 100 KiB."""
    held: list[bytes] = []
    held_bytes = 0
    async for chunk in chunks:
        held.append(chunk)
        held_bytes += len(chunk)
        if held_bytes >= _PIECE_BYTES:
            yield b"".join(held)
            held, held_bytes = [], 0
    if held:
        yield b"".join(held)


def _take(chunk: bytes, copy: IO[bytes] | None, digests: Digests, ends: Ends) -> None:
    if copy is not None:
        write_all(copy, chunk)
    digests.update(chunk)
    ends.update(chunk)


def _digest_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_PIECE_BYTES):
        digest.update(chunk)
    return digest.digest()


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
