"""Downloads: the bytes of a file go from the store to whoever may have them, whole or in ranges (RFC 9110, 14).

What is sent is never taken for a page: its type is what its bytes were found to be, nosniff, in a sandbox without
rights, and saved rather than shown unless the kind is safe to show and that was asked for.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from core.access import Principal, service_principal
from core.doors import Visit
from core.errors import BankhubError, NotFound, Unauthenticated, Unavailable
from files import api
from files.inspection.names import content_disposition
from files.library import rules
from files.storage.keys import content_key

if TYPE_CHECKING:
    from core.runtime import Runtime
    from files.sealing.sealer import Sealer
    from files.storage.bucket import Bucket, Content

log = structlog.get_logger(__name__)

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_SANDBOX: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"


class Sending:
    """See the module. One instance a process."""

    def __init__(self, runtime: Runtime, bucket: Bucket, sealer: Sealer, secret: bytes) -> None:
        self._runtime, self._bucket, self._sealer, self._secret = runtime, bucket, sealer, secret

    async def by_link(self, visit: Visit, token: str) -> web.StreamResponse:
        """GET /files/open/TOKEN/NAME: whoever has the address."""
        allowed = rules.check(self._secret, token, self._runtime.clock.now_ms() / 1000)
        expires_ms = self._runtime.clock.now_ms() + 60_000
        who = service_principal(allowed.enterprise_id, expires_ms, "files")
        place = await self._locate(visit, who, allowed.file_id, allowed.variant, visible=True)
        return await self._send(visit, allowed.enterprise_id, place, allowed.variant, inline=allowed.inline)

    async def by_token(self, visit: Visit, file_id: int, variant: str) -> web.StreamResponse:
        """GET /files/ID or /files/ID/VARIANT: a person who may see it now."""
        who = visit.principal
        if who is None:
            raise Unauthenticated
        place = await self._locate(visit, who, file_id, variant, visible=False)
        return await self._send(
            visit, who.enterprise_id, place, variant, inline="inline" in visit.request.rel_url.query
        )

    async def _locate(
        self, visit: Visit, who: Principal, file_id: int, variant: str, *, visible: bool
    ) -> api.Place:
        if variant not in rules.VARIANTS:
            raise NotFound("no such variant")
        given: Any = {"file_id": file_id, "variant": variant, "visible": visible}
        return await self._runtime.calls.call(api.Locate(**given), principal=who, source=visit.source)

    async def _send(
        self, visit: Visit, enterprise_id: int, place: api.Place, variant: str, *, inline: bool
    ) -> web.StreamResponse:
        asked = visit.request.headers
        etag = f'"{place.digest.hex()[:40]}{"" if variant == "original" else variant[0]}"'
        headers = {
            **visit.headers,
            "Accept-Ranges": "bytes",
            "Content-Disposition": content_disposition(place.name, inline=inline and place.inline),
            "Content-Security-Policy": _SANDBOX,
            "Content-Type": place.media_type,
            "Cross-Origin-Resource-Policy": "same-site",
            "ETag": etag,
        }
        if variant == "original":
            headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(place.digest).decode()}:"
        if _matches(asked.get("If-None-Match", ""), etag):
            return web.Response(status=304, headers={k: v for k, v in headers.items() if k != "Content-Type"})
        size = place.size_bytes
        ranged = (  # of other methods than GET ranges mean nothing
            asked.get("Range")
            if visit.request.method == "GET" and asked.get("If-Range", etag) == etag
            else None
        )
        span = None if ranged is None else span_of(ranged, size)
        if span == ():
            visit.on_refusal["Content-Range"] = f"bytes */{size}"
            raise Unsatisfiable(detail={"size_bytes": str(size)})
        start, length = span or (0, size)
        answer = web.StreamResponse(status=206 if span else 200, headers=headers)
        if span:
            answer.headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
        answer.content_length = length
        if visit.request.method == "HEAD" or not length:
            await answer.prepare(visit.request)
            return answer
        await self._stream(visit, enterprise_id, place, answer, start, length, whole=not span)
        return answer

    async def _stream(
        self, visit: Visit, enterprise_id: int, place: api.Place, answer: web.StreamResponse, start: int, length: int,
        *, whole: bool,
    ) -> None:  # fmt: skip
        key = content_key(place.object_id)
        sealed = (
            None
            if place.wrapped_key is None
            else self._sealer.open_key(enterprise_id, place.object_id, place.wrapped_key)
        )
        first, count = start, (None if whole else length)
        if sealed is not None:
            first, count = sealed.stored_span(start, length, place.size_bytes)
        async with self._content(enterprise_id, key, first, count) as content:
            chunks = content.chunks()
            if sealed is not None:
                chunks = sealed.unseal_span(chunks, start, length)
            await answer.prepare(visit.request)
            try:
                async for chunk in chunks:
                    await answer.write(chunk)
            except BankhubError as error:
                # the head has gone and says how much comes: only a broken connection tells that it did not
                log.warning("files.download_broke", code=error.code)
                if visit.request.transport is not None:
                    visit.request.transport.abort()
                raise ConnectionResetError from error

    @asynccontextmanager
    async def _content(
        self, enterprise_id: int, key: str, first: int, count: int | None
    ) -> AsyncIterator[Content]:
        """What the store has. Raises `Unavailable` where it has not what it was given: there is such a file."""
        try:
            async with self._bucket.get(key, first, count) as content:
                yield content
        except NotFound as error:
            log.error("files.lost", enterprise_id=enterprise_id, key=key)
            raise Unavailable("the store has lost the bytes of this file") from error


class Unsatisfiable(BankhubError):
    """The file does not have these bytes."""

    code = "invalid"
    http_status = 416


def span_of(ranged: str, size: int) -> tuple[int, int] | tuple[()] | None:
    """(start, length) of a Range of one part; None: not one that is served, so all of it; (): not in the file."""
    found = _RANGE.fullmatch(ranged.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:  # the last so many
        length = min(int(last), size)
        return (size - length, length) if length else ()
    start = int(first)
    if start >= size:
        return ()
    if last and int(last) < start:
        return None
    end = min(int(last), size - 1) if last else size - 1
    return start, end - start + 1


def _matches(given: str, etag: str) -> bool:
    return given.strip() == "*" or etag in {one.strip().removeprefix("W/") for one in given.split(",")}
