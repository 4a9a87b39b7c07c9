"""Which path leads where behind /files/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import web

from core.doors import Door, Visit
from core.errors import NotFound
from core.keys import cluster_secret, derive
from core.service import Service
from files.doors.body import Gauge, id_in
from files.doors.resumable import ANSWER_HEADERS, REQUEST_HEADERS, Resumable
from files.doors.send import Sending
from files.doors.whole import Whole
from files.sealing.sealer import Sealer
from files.storage.spool import Spool

if TYPE_CHECKING:
    from core.runtime import Runtime
    from files.storage.bucket import Bucket

PREFIX: Final = "/files/"
OPEN: Final = "/files/open/"


class FileDoors(Service):
    """The doors of a process with an HTTP edge. The actions may be in another one.

    POST, PUT   /files/upload?name=NAME          a whole file
    (tus 1.0)   /files/tus, /files/tus/UPLOAD    a resumable upload
    GET, HEAD   /files/open/TOKEN/NAME           by an address that was made for somebody
    GET, HEAD   /files/ID, /files/ID/VARIANT     with a token
    """

    name = "files.doors"

    def __init__(self, bucket: Bucket, public_url: str | None = None) -> None:
        """`public_url`: the host of addresses made for somebody, where it is another one (`files_public_url`)."""
        self._bucket = bucket
        self._whole: Whole | None = None
        self._resumable: Resumable | None = None
        self._sending: Sending | None = None
        self.door = Door(
            self.name,
            PREFIX,
            self.handle,
            methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
            allowed=(*REQUEST_HEADERS, "range", "if-range", "if-none-match", "repr-digest", "content-digest"),
            exposed=(
                *ANSWER_HEADERS,
                "ETag",
                "Content-Range",
                "Accept-Ranges",
                "Content-Disposition",
                "Repr-Digest",
            ),
            apart=None if public_url is None else (urlsplit(public_url).netloc.lower(), OPEN),
        )

    async def start(self, runtime: Runtime) -> None:
        sealer, gauge = Sealer(runtime.keys, runtime.rng), Gauge(runtime.settings.files_uploads_at_once)
        secret = derive(cluster_secret(runtime.settings), "file addresses")
        self._whole = Whole(runtime, self._bucket, sealer, gauge)
        self._resumable = Resumable(runtime, self._bucket, sealer, gauge, Spool(runtime.settings))
        self._sending = Sending(runtime, self._bucket, sealer, secret)

    async def stop(self) -> None:
        await self._bucket.close()

    async def handle(self, visit: Visit) -> web.StreamResponse:
        """Answer a request behind the prefix."""
        assert self._whole is not None
        assert self._resumable is not None
        assert self._sending is not None
        first, _, rest = visit.path.partition("/")
        method = visit.request.method
        if first == "tus":
            return await self._resumable.handle(visit, rest)
        if first == "upload" and not rest:
            if method not in ("POST", "PUT"):
                return _only("POST, PUT")
            return await self._whole.handle(visit)
        if method not in ("GET", "HEAD"):
            return _only("GET, HEAD")
        if first == "open":
            return await self._sending.by_link(visit, rest.partition("/")[0])
        file_id = id_in(first)
        if file_id is not None and "/" not in rest:
            return await self._sending.by_token(visit, file_id, rest or "original")
        raise NotFound


def _only(methods: str) -> web.Response:
    return web.Response(status=405, text="not with this method\n", headers={"Allow": methods})
