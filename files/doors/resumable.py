"""Resumable uploads by the tus protocol 1.0 (https://tus.io/protocols/resumable-upload), under /files/tus.

Extensions: creation, creation-with-upload, termination, expiration. The bytes of a part are spooled to an unnamed
file, so that a phone that sends a few KiB a second costs no memory; a full part goes to the store while the next one
comes. What is left over when a request ends or breaks goes there too, as the tail: an offset that was told is stored.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web

from core.access import Principal
from core.actions import Command
from core.dispatch import command_of
from core.doors import Visit, go_on
from core.errors import Invalid, NotFound
from files import api
from files.doors.body import Gauge, TooLarge, as_it_is, id_in
from files.doors.whole import media_type, person
from files.doors.writer import Status, Writer
from files.inspection.reasons import TEXTS, Reason
from files.inspection.rules import decide
from files.inspection.workshop import policy_of
from files.uploads import rules

if TYPE_CHECKING:
    from core.runtime import Runtime
    from files.sealing.sealer import Sealer
    from files.storage.bucket import Bucket
    from files.storage.spool import Spool

R = TypeVar("R")

VERSION: Final = "1.0.0"
OFFSET_TYPE: Final = "application/offset+octet-stream"
EXTENSIONS: Final = "creation,creation-with-upload,termination,expiration"
_UNSPOKEN: Final = ("Upload-Concat", "Upload-Checksum")  # to leave them unheeded would store something else
METHODS: Final = ("POST", "HEAD", "PATCH", "DELETE", "OPTIONS")
REQUEST_HEADERS: Final = (
    "tus-resumable", "upload-length", "upload-offset", "upload-metadata", "x-http-method-override", "x-request-id",
)  # fmt: skip
ANSWER_HEADERS: Final = (
    "Location", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Upload-Offset", "Upload-Length",
    "Upload-Expires", "Upload-Metadata", "File-Id", "File-State",
)  # fmt: skip
_METADATA_BYTES: Final = 4096


class Resumable:
    """See the module. One instance a process."""

    def __init__(self, runtime: Runtime, bucket: Bucket, sealer: Sealer, gauge: Gauge, spool: Spool) -> None:
        self.runtime, self.bucket, self.sealer, self._gauge = runtime, bucket, sealer, gauge
        self.spool = spool
        self._policy = policy_of(runtime.settings)

    async def handle(self, visit: Visit, upload: str) -> web.Response:
        """Answer a request for /files/tus (`upload` empty) or for one upload."""
        request = visit.request
        method = request.headers.get("X-HTTP-Method-Override", request.method).upper()
        visit.on_refusal["Tus-Resumable"] = VERSION
        try:
            if method == "OPTIONS":
                return web.Response(status=204, headers=self._abilities())
            if request.headers.get("Tus-Resumable") != VERSION:
                raise Status(412, "this is tus 1.0.0", {"Tus-Version": VERSION})
            if unspoken := [name for name in _UNSPOKEN if name in request.headers]:
                raise Status(400, f"{unspoken[0]} is of an extension that is not spoken here: {EXTENSIONS}")
            as_it_is(request)
            who = person(visit)
            if not upload:
                if method != "POST":
                    raise Status(405, "uploads are created with POST", {"Allow": "POST, OPTIONS"})
                answer = await self._create(visit, who)
            elif (upload_id := id_in(upload)) is None:
                raise NotFound("no such upload")
            elif method == "HEAD":
                answer = await self._head(visit, who, upload_id)
            elif method == "PATCH":
                answer = await self._patch(visit, who, upload_id)
            elif method == "DELETE":
                await self._there(visit, who, upload_id)
                await self.call(visit, who, api.AbortUpload(upload_id=upload_id))
                answer = web.Response(status=204)
            else:
                raise Status(405, "HEAD, PATCH or DELETE", {"Allow": "HEAD, PATCH, DELETE, OPTIONS"})
        except Status as status:
            answer = web.Response(status=status.status, text=f"{status.text}\n", headers=status.headers)
        answer.headers["Tus-Resumable"] = VERSION
        return answer

    def _abilities(self) -> dict[str, str]:
        return {
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(self.runtime.settings.files_max_bytes),
        }

    # --- the four verbs -----------------------------------------------------------------------------------------------

    async def _create(self, visit: Visit, who: Principal) -> web.Response:
        headers = visit.request.headers
        if "Upload-Defer-Length" in headers:
            raise Status(400, "say Upload-Length: the length cannot be told later")
        size = _number(headers.get("Upload-Length"), "Upload-Length")
        if size > self.runtime.settings.files_max_bytes:
            raise TooLarge(
                TEXTS[Reason.TOO_LARGE],
                detail={
                    "code": str(Reason.TOO_LARGE),
                    "max_bytes": str(self.runtime.settings.files_max_bytes),
                },
            )
        if not size:
            raise Invalid(TEXTS[Reason.EMPTY], detail={"code": str(Reason.EMPTY)})
        given = _metadata(headers.get("Upload-Metadata", ""))
        asked = {
            "name": given.get("filename") or given.get("name") or "",
            "size_bytes": size,
            "media_type": media_type(given.get("filetype") or given.get("type") or ""),
            "sha256": _digest(given.get("sha256")),
            "sm3": _digest(given.get("sm3")),
        }
        upload = await self.call(visit, who, command_of(api.BeginUpload, asked))
        answer = web.Response(
            status=201, headers={"Location": f"{visit.origin}/files/tus/{upload.upload_id}"}
        )
        if headers.get("Content-Type") == OFFSET_TYPE:
            written = await self._write(visit, who, upload.upload_id, 0)
            answer.headers.update(written)
        else:
            answer.headers.update(
                {"Upload-Offset": "0", "Upload-Expires": formatdate(upload.expires_ms / 1000, usegmt=True)}
            )
        return answer

    async def _head(self, visit: Visit, who: Principal, upload_id: int) -> web.Response:
        upload, done = await self._there(visit, who, upload_id), {}
        if upload.received_bytes == upload.size_bytes:
            # whoever hears that sends nothing more: make it a file now
            whole = api.Complete(upload_id=upload_id, epoch=0, kind=None, sha256=None, sm3=None)
            done = await self._become(visit, who, whole, waits=False)
        name = base64.b64encode(upload.name.encode()).decode()
        return web.Response(
            status=200,
            headers={
                "Upload-Offset": str(upload.received_bytes),
                "Upload-Length": str(upload.size_bytes),
                "Upload-Metadata": f"filename {name}",
                "Upload-Expires": formatdate(upload.expires_ms / 1000, usegmt=True),
                **done,
            },
        )

    async def _there(self, visit: Visit, who: Principal, upload_id: int) -> api.Upload:
        upload = await self.call(visit, who, api.GetUpload(upload_id=upload_id))
        if upload.way != "tus":
            raise NotFound("no such upload")
        if upload.state == "aborted":
            raise Status(410, "this upload was given up")
        return upload

    async def _patch(self, visit: Visit, who: Principal, upload_id: int) -> web.Response:
        headers = visit.request.headers
        if headers.get("Content-Type") != OFFSET_TYPE:
            raise Status(415, f"the body is {OFFSET_TYPE}")
        offset = _number(headers.get("Upload-Offset"), "Upload-Offset")
        return web.Response(status=204, headers=await self._write(visit, who, upload_id, offset))

    # --- bytes --------------------------------------------------------------------------------------------------------

    async def _write(self, visit: Visit, who: Principal, upload_id: int, offset: int) -> dict[str, str]:
        """Take the body in at `offset`; header fields that say how far the upload is then."""
        self._gauge.enter(who.person_id)
        try:
            ticket = await self.call(visit, who, api.Claim(upload_id=upload_id, offset=offset))
            upload = ticket.upload
            if upload.state in ("done", "finishing") and offset == upload.size_bytes:
                return await self._complete(visit, who, ticket, None)
            if upload.state == "aborted":
                raise Status(410, "this upload was given up")
            length = visit.request.content_length or 0
            try:
                rules.may_write(upload.state, offset, upload.received_bytes, upload.size_bytes, length)
            except Invalid as error:
                raise Status(413, error.message) from error
            go_on(visit.request)
            writer = Writer(self, visit, who, ticket)
            await writer.run()
            if writer.received == upload.size_bytes:
                return await self._complete(visit, who, ticket, writer)
            return {
                "Upload-Offset": str(writer.received),
                "Upload-Expires": formatdate(writer.expires_ms / 1000, usegmt=True),
            }
        finally:
            self._gauge.leave(who.person_id)

    async def _complete(
        self, visit: Visit, who: Principal, ticket: api.Ticket, writer: Writer | None
    ) -> dict[str, str]:
        upload = ticket.upload
        kind, sha256 = None, None
        if writer is not None and writer.digests is not None and writer.ends is not None:
            sha256 = writer.digests.sha256
            try:
                rules.same_digest("sha-256", ticket.sha256, sha256)
                rules.same_digest("sm3", ticket.sm3, writer.digests.sm3)
                verdict = await asyncio.to_thread(
                    decide,
                    upload.name,
                    ticket.media_type or "",
                    writer.ends.head,
                    writer.ends.tail,
                    upload.size_bytes,
                    self._policy,
                )
                if verdict.kind is None:
                    raise Invalid(verdict.text, detail={"code": str(verdict.refusal)})
            except Invalid:
                await self.call(visit, who, api.AbortUpload(upload_id=upload.upload_id))
                raise
            kind = verdict.kind.name
        done = await self._become(
            visit,
            who,
            api.Complete(upload_id=upload.upload_id, epoch=ticket.epoch, kind=kind, sha256=sha256, sm3=None),
        )
        return {"Upload-Offset": str(upload.size_bytes), **done}

    async def _become(
        self, visit: Visit, who: Principal, complete: api.Complete, *, waits: bool = True
    ) -> dict[str, str]:
        file = await self.call(visit, who, complete)
        if waits and file.state == "checking":
            wait = api.Settled(file_id=file.file_id, wait_s=self.runtime.settings.files_wait_s)
            file = await self.call(visit, who, wait)
        return {"File-Id": str(file.file_id), "File-State": file.state}

    async def call(self, visit: Visit, who: Principal, asked: Command[R]) -> R:
        return await self.runtime.calls.call(asked, principal=who, source=visit.source)


def _number(given: str | None, name: str) -> int:
    if given is None or not given.isascii() or not given.isdecimal() or len(given) > 15:
        raise Status(400, f"{name} is a number of bytes")
    return int(given)


def _metadata(given: str) -> dict[str, str]:
    """Upload-Metadata: names, and values in base64, with commas between."""
    found: dict[str, str] = {}
    if len(given) > _METADATA_BYTES:
        raise Status(400, "Upload-Metadata is too long")
    for pair in filter(None, (one.strip() for one in given.split(","))):
        name, _, text = pair.partition(" ")
        try:
            found[name] = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Status(400, "values of Upload-Metadata are base64 of UTF-8") from None
    return found


def _digest(given: str | None) -> bytes | None:
    """A digest of the whole file in hex, as metadata carries it."""
    if given is None:
        return None
    try:
        digest = bytes.fromhex(given)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise Status(400, "sha256 and sm3 are 32 bytes in hex")
    return digest
