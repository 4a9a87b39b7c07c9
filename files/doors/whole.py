"""A whole file in one request: POST or PUT /files/upload?name=….

The body goes on to the store as it comes, so the hub holds a few hundred KiB of it, however long it is. Only when all
of it has come, agrees with its digest and is what its name says, a row is written; whatever happens before that leaves
an object that nothing knows, which the clean-up takes away.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

import orjson
import structlog
from aiohttp import web

from core.access import Principal
from core.actions import Command
from core.context import Source
from core.doors import Visit, go_on
from core.errors import BankhubError, Conflict, Invalid, Unauthenticated
from core.failpoints import failpoint
from files import api
from files.doors.admission import AT_ONCE_BYTES, Admission
from files.doors.body import Body, BrokenOff, Digests, Ends, Gauge, as_it_is, length_of
from files.doors.progress import Progress
from files.inspection.reasons import TEXTS, Reason
from files.inspection.rules import Policy, Verdict, decide
from files.inspection.workshop import policy_of
from files.storage.keys import content_key
from files.uploads.rules import NOT_SEALED, same_digest

if TYPE_CHECKING:
    from core.runtime import Runtime
    from files.sealing.sealer import Sealer
    from files.storage.bucket import Body as StoredBody
    from files.storage.bucket import Bucket

log = structlog.get_logger(__name__)

R = TypeVar("R")

_DIGEST: Final = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):")  # a member of RFC 9530's dictionary
_ALGORITHMS: Final = ("sha-256", "sm3")
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]{0,100}")
_KEY: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
DIGEST_HEADERS: Final = ("Repr-Digest", "Content-Digest")


class Whole:
    """See the module. One instance a process."""

    def __init__(self, runtime: Runtime, bucket: Bucket, sealer: Sealer, gauge: Gauge) -> None:
        self._runtime, self._bucket, self._sealer, self._gauge = runtime, bucket, sealer, gauge
        self._policy, self._admission = policy_of(runtime.settings), Admission(runtime)

    async def handle(self, visit: Visit) -> web.Response:
        """Answers 201 with the file, or 202 while it is still being checked; see `files.api.File`."""
        who = person(visit)
        request, settings = visit.request, self._runtime.settings
        as_it_is(request)
        size = length_of(request)
        if not size:
            raise Invalid(TEXTS[Reason.EMPTY], detail={"code": str(Reason.EMPTY)})
        name = request.rel_url.query.get("name", "")
        declared = digests_of(visit)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not _KEY.fullmatch(key):
            raise Invalid("an Idempotency-Key has 1 to 64 characters of 0-9 A-Z a-z _ -")
        self._gauge.enter(who.person_id)
        try:
            clean, own_key = await self._admission.ask(who, name, size, visit.source)
            file = await self._store(visit, who, clean, own_key, size, declared, key)
            await failpoint("files.row_before_answer")
            if file.state == "checking":
                file = await self._call(
                    api.Settled(file_id=file.file_id, wait_s=settings.files_wait_s), who, visit.source
                )
        finally:
            self._gauge.leave(who.person_id)
        return answer(visit, file)

    async def _store(
        self, visit: Visit, who: Principal, name: str, own_key: bool, size: int, declared: dict[str, bytes],
        key: str | None,
    ) -> api.File:  # fmt: skip
        digests, ends = Digests(sm3="sm3" in declared), Ends()
        progress = Progress(self._runtime, who, size, name=name)

        def seen(chunk: bytes) -> None:
            digests.update(chunk)
            ends.update(chunk)
            progress.add(len(chunk))

        async def keep(object_id: int, wrapped_key: bytes | None) -> api.File:
            same_digest("sha-256", declared.get("sha-256"), digests.sha256)
            same_digest("sm3", declared.get("sm3"), digests.sm3)
            verdict = await judged(name, declared_type(visit) or "", ends.head, ends.tail, size, self._policy)
            if verdict.kind is None:
                raise Invalid(verdict.text, detail={"code": str(verdict.refusal)})
            return await self._call(
                api.Keep(
                    object_id=object_id, name=name, size_bytes=size, media_type=declared_type(visit),
                    kind=verdict.kind.name, sha256=digests.sha256, sm3=digests.sm3, wrapped_key=wrapped_key, key=key,
                ),
                who, visit.source,
            )  # fmt: skip

        go_on(visit.request)
        chunks = Body(visit.request, self._runtime.settings, seen).chunks()
        if size > AT_ONCE_BYTES:
            return await self._put(who, chunks, size, own_key, keep)
        body = await _joined(chunks, size)
        try:
            return await self._put(who, body, size, own_key, keep)
        except Conflict as refusal:
            if own_key or (refusal.detail or {}).get("code") != NOT_SEALED:
                raise
            self._admission.seals(who.enterprise_id)  # since a moment ago
            return await self._put(who, body, size, True, keep)

    async def _put(
        self, who: Principal, body: bytes | AsyncIterator[bytes], size: int, own_key: bool,
        keep: Callable[[int, bytes | None], Awaitable[api.File]],
    ) -> api.File:  # fmt: skip
        """Store the body as a new object, then `keep` it; what is refused goes again."""
        object_id = self._runtime.ids.next()
        content: StoredBody = body
        stored_bytes, wrapped_key = size, None
        if own_key:
            sealed = self._sealer.new_key(who.enterprise_id, object_id)
            content = sealed.seal(_once(body) if isinstance(body, bytes) else body)
            stored_bytes, wrapped_key = sealed.stored_bytes(size), sealed.wrapped
        place = content_key(object_id)
        await failpoint("files.before_put")
        await self._bucket.put(place, content, stored_bytes)
        await failpoint("files.stored_before_row")
        try:
            return await keep(object_id, wrapped_key)
        except BankhubError as refusal:
            if not refusal.temporary:  # else a row may be there all the same
                await self._forget(place)
            raise

    async def _forget(self, place: str) -> None:
        try:
            await self._bucket.delete([place])
        except BankhubError as error:
            log.warning("files.left_behind", code=error.code)  # until the clean-up

    async def _call(self, asked: Command[R], who: Principal, source: Source) -> R:
        return await self._runtime.calls.call(asked, principal=who, source=source)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _joined(chunks: AsyncIterator[bytes], size_bytes: int) -> bytes:
    content = b"".join([chunk async for chunk in chunks])
    if len(content) != size_bytes:
        raise BrokenOff
    return content


async def judged(
    name: str, declared: str, head: bytes, tail: bytes, size_bytes: int, policy: Policy
) -> Verdict:
    """`decide`, beside the loop where there is enough to look at that going there costs less."""
    if len(head) + len(tail) <= AT_ONCE_BYTES:
        return decide(name, declared, head, tail, size_bytes, policy)
    return await asyncio.to_thread(decide, name, declared, head, tail, size_bytes, policy)


def person(visit: Visit) -> Principal:
    """Who is at the door. Raises `Unauthenticated`."""
    if visit.principal is None:
        raise Unauthenticated
    return visit.principal


def declared_type(visit: Visit) -> str | None:
    """What the sender calls it; None where nothing was said."""
    return media_type(visit.request.headers.get("Content-Type", ""))


def media_type(given: str) -> str | None:
    """A media type without its parameters, in lower case; None for what is not one."""
    bare = given.partition(";")[0].strip().lower()
    return bare if _MEDIA_TYPE.fullmatch(bare) else None


def digests_of(visit: Visit) -> dict[str, bytes]:
    """Digests of the whole, by name, as RFC 9530 writes them. Raises `Invalid` for what is not written so, and where
    there are only such as we do not know: who declares a digest believes that it was compared."""
    found: dict[str, bytes] = {}
    others: set[str] = set()
    for header in DIGEST_HEADERS:
        for member in ",".join(visit.request.headers.getall(header, ())).split(","):
            if not member.strip():
                continue
            name, digest = _digest_in(header, member.strip())
            if digest is None:
                others.add(name)
            elif found.setdefault(name, digest) != digest:
                raise _malformed(header)
    if others and not found:
        raise Invalid(
            "none of these digests is known here: sha-256 and sm3 are",
            detail={"code": "digest_unknown", "known": list(_ALGORITHMS)},
        )
    return found


def _digest_in(header: str, member: str) -> tuple[str, bytes | None]:
    """The algorithm, and the digest where we know that one."""
    parsed = _DIGEST.fullmatch(member)
    if parsed is None:
        raise _malformed(header)
    name, text = parsed.groups()
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _malformed(header) from None
    if name not in _ALGORITHMS:
        return name, None
    if len(digest) != 32:
        raise _malformed(header)
    return name, digest


def _malformed(header: str) -> Invalid:
    return Invalid(
        f"{header} is like sha-256=:BASE64: with 32 bytes, each algorithm once",
        detail={"code": "digest_malformed"},
    )


def answer(visit: Visit, file: api.File) -> web.Response:
    """A file as JSON."""
    return web.Response(
        status=202 if file.state == "checking" else 201,
        body=orjson.dumps(file.model_dump(mode="json")),
        content_type="application/json",
        headers={"Location": f"/files/{file.file_id}"},
    )
