"""One bucket: bytes go by signed addresses over a plain HTTP client, everything else by aiobotocore.

A body is given as bytes, or as an asynchronous iterator of chunks that together have the length that is told
beforehand: it goes on as it comes, so an object of any size takes a few hundred KiB of memory, and a store that is
slow slows down whoever sends (back-pressure). Every method raises `Unavailable` when the store does not answer or
fails by itself; what it refuses otherwise is a fault of ours and raises `Internal`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import structlog
from yarl import URL

from core.errors import Conflict, Internal, NotFound, Unavailable
from core.failpoints import failpoint
from core.s3 import S3
from files.storage.signing import signed_url

if TYPE_CHECKING:
    from core.clock import Clock

log = structlog.get_logger(__name__)

Body = bytes | bytearray | memoryview | AsyncIterable[bytes]

CHUNK_BYTES: Final = 256 << 10  # read from a socket at once: fewer turns of the loop, still little memory
PART_BYTES_MIN: Final = 5 << 20  # of S3, of every part but the last
PARTS_MAX: Final = 10_000  # of S3
_OURS_S: Final = 600  # an address that we use ourselves, at once
_CONNECT_S: Final = 5.0
_SILENCE_S: Final = 60.0  # a store that takes a large object may think for a while at its end
_DELETE_MAX: Final = 1000  # keys of one request, as S3 has it
_CHANGED: Final = frozenset({"InvalidPart", "InvalidPartOrder"})
_GONE: Final = frozenset({"NoSuchKey", "NoSuchUpload", "404", "NotFound"})


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store lists it."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload: str
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the store has."""

    number: int
    size_bytes: int
    etag: str


class Content:
    """An object that is being read: its chunks, once."""

    def __init__(self, answer: aiohttp.ClientResponse, length: int) -> None:
        self._answer = answer
        self.length = length  # of what comes, in bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """What was asked for, in pieces of up to `CHUNK_BYTES`. Raises `Unavailable` where it ends too early."""
        came = 0
        try:
            async for chunk in self._answer.content.iter_any():
                came += len(chunk)
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("the object store broke off", retry_ms=1000) from error
        if came != self.length:
            raise Unavailable("the object store sent too little", retry_ms=1000)

    async def read(self) -> bytes:
        """All of it at once: for small objects."""
        return b"".join([chunk async for chunk in self.chunks()])


class Bucket:
    """Opens by itself when it is first used, by many tasks at once; `close` lets go."""

    def __init__(self, s3: S3, clock: Clock, *, connections: int = 64) -> None:
        self.s3 = s3
        self._clock, self._connections = clock, connections
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None
        self._client: Any = None

    async def _open(self) -> None:
        async with self._opening:
            if self._client is None:
                self._client = await self._stack.enter_async_context(self.s3.client())

    def _connect(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self._connections, ttl_dns_cache=60)
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
            auto_decompress=False,
            read_bufsize=CHUNK_BYTES,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        self._stack.push_async_callback(session.close)
        return session

    async def close(self) -> None:
        """Let go of connections. It may be used again, and opens anew."""
        await self._stack.aclose()
        self._http = self._client = None

    # --- objects ------------------------------------------------------------------------------------------------------

    async def put(self, key: str, body: Body, size_bytes: int) -> str:
        """Store an object whole, in the place of what was there; its ETag.

        An iterator's own exception passes through and nothing is stored; the same where it ends too early.
        """
        return await self._put(key, body, size_bytes, {})

    @asynccontextmanager
    async def get(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[Content]:
        """Read an object, from `start` on, `length` bytes or all. Raises `NotFound`."""
        wanted = {}
        if start or length is not None:
            wanted["Range"] = f"bytes={start}-" + ("" if length is None else str(start + length - 1))
        try:
            answer = await self._session.get(self._url("GET", key), headers=wanted)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("the object store cannot be reached", retry_ms=1000) from error
        try:
            if answer.status not in (200, 206):
                await self._refused(answer)
            yield Content(answer, int(answer.headers["Content-Length"]))
        finally:
            answer.close()  # half-read connections are not used again; read ones were given back before

    async def size(self, key: str) -> int | None:
        """How long an object is, in bytes; None where there is none."""
        try:
            async with self._session.head(self._url("HEAD", key)) as answer:
                if answer.status == 404:
                    return None
                if answer.status != 200:
                    await self._refused(answer)
                return int(answer.headers["Content-Length"])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("the object store cannot be reached", retry_ms=1000) from error

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are removed already."""
        every = list(keys)
        for start in range(0, len(every), _DELETE_MAX):
            batch = [{"Key": key} for key in every[start : start + _DELETE_MAX]]
            answer = await self._control("delete_objects", Delete={"Objects": batch, "Quiet": True})
            failed = [e for e in answer.get("Errors", ()) if e.get("Code") not in _GONE]
            if failed:
                raise Unavailable(f"the object store kept {len(failed)} objects", retry_ms=5000)

    async def keys(self, prefix: str, after: str = "") -> AsyncIterator[Stored]:
        """Every object whose key begins with `prefix` and comes behind `after`, in the order of keys."""
        more: dict[str, str] = {"StartAfter": after} if after else {}
        while True:
            page = await self._control("list_objects_v2", Prefix=prefix, **more)
            for found in page.get("Contents", ()):
                yield Stored(found["Key"], found["Size"], found["LastModified"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def outside(self, *folders: str) -> AsyncIterator[Stored]:
        """Every object that lies in none of these folders of the top. Names with a dot before them are an engine's."""
        more: dict[str, str] = {}
        while True:
            page = await self._control("list_objects_v2", Prefix="", Delimiter="/", **more)
            for found in page.get("Contents", ()):
                if not found["Key"].startswith("."):
                    yield Stored(found["Key"], found["Size"], found["LastModified"])
            for folder in page.get("CommonPrefixes", ()):
                if folder["Prefix"] not in folders and not folder["Prefix"].startswith("."):
                    async for one in self.keys(folder["Prefix"]):
                        yield one
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    # --- in parts -----------------------------------------------------------------------------------------------------

    async def begin(self, key: str) -> str:
        """Begin an upload in parts; the store's name of it."""
        answer = await self._control("create_multipart_upload", Key=key)
        return str(answer["UploadId"])

    async def put_part(self, key: str, upload: str, number: int, body: Body, size_bytes: int) -> str:
        """Store a part (numbers from 1), in the place of one with this number; its ETag."""
        return await self._put(key, body, size_bytes, {"partNumber": str(number), "uploadId": upload})

    def part_url(
        self,
        key: str,
        upload: str,
        number: int,
        size_bytes: int,
        expires_s: int,
        *,
        endpoint: str | None = None,
    ) -> str:
        """An address by which a client may put exactly this part, of exactly this size."""
        s3 = self.s3 if endpoint is None else S3(
            endpoint, self.s3.access_key, self.s3.secret_key, self.s3.bucket, self.s3.region
        )  # fmt: skip
        return signed_url(
            s3, "PUT", key, self._clock.now(), expires_s=expires_s,
            query={"partNumber": str(number), "uploadId": upload},
            headers={"content-length": str(size_bytes)},
        )  # fmt: skip

    async def parts(self, key: str, upload: str) -> list[Part]:
        """The parts that the store has, by number, of each the newest. Raises `NotFound`.

        SeaweedFS lists every version of a part that was sent again; where two came within a second, either may be it.
        """
        found: dict[int, tuple[datetime, Part]] = {}
        marker = 0
        while True:
            page = await self._control("list_parts", Key=key, UploadId=upload, PartNumberMarker=marker)
            for one in page.get("Parts", ()):
                number, at = one["PartNumber"], one["LastModified"]
                if number not in found or found[number][0] <= at:
                    found[number] = at, Part(number, one["Size"], one["ETag"])
            if not page.get("IsTruncated"):
                return [found[number][1] for number in sorted(found)]
            marker = page["NextPartNumberMarker"]

    async def complete(self, key: str, upload: str, parts: Sequence[tuple[int, str]]) -> None:
        """Make the object of its parts (number, ETag). Raises `NotFound` for an upload that is over, `Conflict` where
        the store has no part with that ETag any more (SeaweedFS keeps every version of a part and takes the named)."""
        every = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
        await self._control(
            "complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": every}
        )

    async def abort(self, key: str, upload: str) -> None:
        """Give up an upload in parts; one that is over is given up already."""
        try:
            await self._control("abort_multipart_upload", Key=key, UploadId=upload)
        except NotFound:
            return

    async def unfinished(self) -> AsyncIterator[Unfinished]:
        """Every upload in parts that is under way or was left."""
        more: dict[str, str] = {}
        while True:
            page = await self._control("list_multipart_uploads", **more)
            for found in page.get("Uploads", ()):
                yield Unfinished(found["Key"], found["UploadId"], found["Initiated"])
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    # --- the bucket itself --------------------------------------------------------------------------------------------

    async def prepare(self, *, encrypted: bool, abort_after_days: int) -> None:
        """Have the store encrypt what it keeps (SSE-S3) and abort by itself what was left; both are kept there.

        Raises `Unavailable` where it does not.
        """
        if encrypted:
            rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
            await self._control("put_bucket_encryption", ServerSideEncryptionConfiguration={"Rules": [rule]})
        await self._control(
            "put_bucket_lifecycle_configuration",
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "bankhub-abort-left-uploads",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": abort_after_days},
                    }
                ]
            },
        )

    async def encrypts(self) -> bool:
        """Whether the store encrypts by itself what it keeps. Raises `NotFound`, `Internal` or `Unavailable`."""
        await self._control("head_bucket")
        try:
            await self._control("get_bucket_encryption")
        except (NotFound, Internal):
            return False
        return True

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = self._connect()
        return self._http

    def _url(self, method: str, key: str, query: Mapping[str, str] | None = None) -> URL:
        url = signed_url(self.s3, method, key, self._clock.now(), expires_s=_OURS_S, query=query)
        return URL(url, encoded=True)

    async def _put(self, key: str, body: Body, size_bytes: int, query: Mapping[str, str]) -> str:
        source = None if isinstance(body, bytes | bytearray | memoryview) else _Counted(body, size_bytes)
        try:
            async with self._session.put(
                self._url("PUT", key, query),
                data=body if source is None else source.chunks(),
                headers={"Content-Length": str(size_bytes)},
            ) as answer:
                if source is not None and source.error is not None:
                    raise source.error
                if answer.status != 200:
                    await self._refused(answer)
                return answer.headers.get("ETag", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if source is not None and source.error is not None:
                raise source.error from error  # it was not the store that broke off
            raise Unavailable("the object store cannot be reached", retry_ms=1000) from error

    async def _refused(self, answer: aiohttp.ClientResponse) -> None:
        """Raise what the store's answer means."""
        if answer.status == 404:
            raise NotFound("there is no such object")
        if answer.status >= 500 or answer.status in (408, 429):
            raise Unavailable("the object store fails", retry_ms=1000)
        log.error("files.store_refused", status=answer.status, answer=(await answer.text())[:300])
        raise Internal("the object store refused a request")

    async def _control(self, operation: str, **given: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            await self._open()
            return await getattr(self._client, operation)(Bucket=self.s3.bucket, **given)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _CHANGED:
                raise Conflict("the store has other parts than were noted") from error
            if code in _GONE or status == 404:
                raise NotFound("there is no such object") from error
            if status >= 500 or status in (0, 408, 429):
                raise Unavailable("the object store fails", retry_ms=1000) from error
            log.exception("files.store_refused", status=status, operation=operation)
            raise Internal("the object store refused a request") from error
        except (TimeoutError, BotoCoreError, OSError) as error:
            raise Unavailable("the object store cannot be reached", retry_ms=1000) from error


class _Counted:
    """Passes chunks on, and holds the source to the length that was promised to the store."""

    def __init__(self, source: AsyncIterable[bytes], size_bytes: int) -> None:
        self._source, self._left = source, size_bytes
        self.error: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._source:
                self._left -= len(chunk)
                if self._left < 0:
                    raise Internal("a body is longer than was said")
                await failpoint("files.mid_put")
                yield chunk
            if self._left:
                raise Internal("a body is shorter than was said")
        except Exception as error:
            self.error = error
            raise
