"""One request's bytes of a resumable upload: full parts to the store while the next one comes, the rest as a tail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import IO, TYPE_CHECKING

from core.access import Principal
from core.doors import Visit
from core.errors import BankhubError, Conflict
from core.failpoints import failpoint
from files import api
from files.doors.body import Body, Digests, Ends
from files.doors.progress import Progress
from files.storage.bucket import CHUNK_BYTES
from files.storage.keys import content_key, tail_key
from files.storage.spool import write_all

if TYPE_CHECKING:
    from files.doors.resumable import Resumable


class Status(Exception):
    """An answer of this protocol that no error of ours has the status of."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.text, self.headers = status, text, headers or {}
        super().__init__(status)


class Writer:
    """One request's bytes, from where the upload stands: full parts to the store, and what is left as a tail."""

    def __init__(self, door: Resumable, visit: Visit, who: Principal, ticket: api.Ticket) -> None:
        self._door, self._visit, self._who, self._ticket = door, visit, who, ticket
        upload = ticket.upload
        self._size, self._part_bytes = upload.size_bytes, upload.part_bytes
        self._number = ticket.next_part  # of the part that is being spooled
        self._sealed = (
            None
            if ticket.wrapped_key is None
            else door.sealer.open_key(who.enterprise_id, ticket.object_id, ticket.wrapped_key)
        )
        self.received, self.expires_ms = upload.received_bytes, upload.expires_ms  # what is stored for good
        from_the_start = upload.received_bytes == 0
        self.digests = Digests(sm3=ticket.sm3 is not None) if from_the_start else None
        self.ends = Ends() if from_the_start else None
        self._old_tail = tail_key(upload.upload_id, ticket.tail_epoch) if ticket.tail_bytes else None
        self._sending: asyncio.Task[None] | None = None
        self._lost = False  # a part was not stored, so nothing behind it may be noted
        self._spool = door.spool.file()  # of part `_number`
        self._progress = Progress(
            door.runtime, who, self._size, name=upload.name, upload_id=upload.upload_id,
            received_bytes=upload.received_bytes,
        )  # fmt: skip

    async def run(self) -> None:
        """Take in the body. What has come is stored when this ends, also when it ends by an error."""
        try:
            await self._fetch_tail(self._spool)
            fresh = self._spool.tell()
            body = Body(self._visit.request, self._door.runtime.settings, self._seen)
            try:
                async for chunk in body.chunks():
                    await self._take(memoryview(chunk))
            finally:
                await self._sent()
                left = 0 if self._lost else self._spool.tell()
                if left and self._reached(left) == self._size:
                    await self._send_part(self._spool, self._number)
                elif left and (left != fresh or self._number != self._ticket.next_part):
                    await self._send_tail(self._spool)
        finally:
            if self._sending is not None:
                self._sending.cancel()
                await asyncio.gather(self._sending, return_exceptions=True)
            self._spool.close()

    def _reached(self, spooled: int) -> int:
        """How much there is with so much of the present part."""
        return (self._number - 1) * self._part_bytes + spooled

    def _seen(self, chunk: bytes) -> None:
        if self.digests is not None and self.ends is not None:
            self.digests.update(chunk)
            self.ends.update(chunk)
        self._progress.add(len(chunk))

    async def _take(self, chunk: memoryview) -> None:
        """Spool a chunk; a part that is full goes off while the next one is spooled."""
        if self._reached(self._spool.tell()) + len(chunk) > self._size:
            raise Status(413, "more bytes than the file has")
        while chunk:
            written = self._spool.write(chunk[: self._part_bytes - self._spool.tell()])
            chunk = chunk[written:]
            if self._spool.tell() == self._part_bytes:
                await self._sent()
                self._sending = asyncio.create_task(self._send_part(self._spool, self._number))
                self._spool, self._number = self._door.spool.file(), self._number + 1

    async def _sent(self) -> None:
        """Wait for the part that is on its way."""
        if self._sending is not None:
            sending, self._sending, self._lost = self._sending, None, True
            await sending
            self._lost = False

    async def _send_part(self, spool: IO[bytes], number: int) -> None:
        """Store a part and note it; the spool is closed."""
        with spool:
            size = spool.tell()
            first = (number - 1) * self._part_bytes
            body, stored_bytes = _read(spool), size
            if self._sealed is not None:
                body, stored_bytes = self._sealed.seal(body, first), self._sealed.stored_bytes(size)
            etag = await self._door.bucket.put_part(
                content_key(self._ticket.object_id), self._ticket.multipart, number, body, stored_bytes
            )
        await failpoint("files.part_before_note")
        await self._advance(part=number, etag=etag, size=size, tail=0)
        await self._drop_old_tail()

    async def _send_tail(self, spool: IO[bytes]) -> None:
        """Store what has come of a part that is not full."""
        size, key = spool.tell(), tail_key(self._ticket.upload.upload_id, self._ticket.epoch)
        body, stored_bytes = _read(spool), size
        if self._sealed is not None:
            body, stored_bytes = self._sealed.seal(body, 0), self._sealed.stored_bytes(size)
        await self._door.bucket.put(key, body, stored_bytes)
        await failpoint("files.part_before_note")
        try:
            await self._advance(part=None, etag=None, size=0, tail=size)
        except Conflict:  # somebody else goes on: nobody will ask for this
            with contextlib.suppress(BankhubError):  # the clean-up finds it
                await self._door.bucket.delete([key])
            raise
        await self._drop_old_tail()

    async def _fetch_tail(self, spool: IO[bytes]) -> None:
        """What an earlier request left of the present part."""
        if self._old_tail is None:
            return
        async with self._door.bucket.get(self._old_tail) as content:
            chunks = content.chunks()
            if self._sealed is not None:
                chunks = self._sealed.unseal(chunks, 0)
            async for chunk in chunks:
                write_all(spool, chunk)
        if spool.tell() != self._ticket.tail_bytes:
            raise Conflict("the store has lost a part of this upload: begin again")

    async def _drop_old_tail(self) -> None:
        if self._old_tail is not None:
            old, self._old_tail = self._old_tail, None
            with contextlib.suppress(BankhubError):  # the clean-up finds it
                await self._door.bucket.delete([old])

    async def _advance(self, *, part: int | None, etag: str | None, size: int, tail: int) -> None:
        upload = await self._door.call(
            self._visit,
            self._who,
            api.Advance(
                upload_id=self._ticket.upload.upload_id, epoch=self._ticket.epoch, part=part, etag=etag,
                size_bytes=size, tail_bytes=tail,
            ),
        )  # fmt: skip
        self.received, self.expires_ms = upload.received_bytes, upload.expires_ms


async def _read(spool: IO[bytes]) -> AsyncIterator[bytes]:
    """What was spooled, from its beginning."""
    spool.seek(0)
    while chunk := spool.read(CHUNK_BYTES):
        yield chunk
