"""People of a files' fault run: each uploads in one way, again and again, and goes on whatever breaks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import random
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from PIL import Image

from files.uploads.rules import PART_BYTES
from tests.bench.files_client import small_of

RETRY_S = 0.2
_AGAIN = (408, 409, 423, 429, 500, 502, 503, 504)


class Refused(Exception):
    """An answer that no retry changes: in these runs nobody does anything that is to be refused."""


@dataclass
class Sent:
    """A file that somebody was told is there."""

    file_id: int
    who: str
    way: str
    size_bytes: int
    sha256: bytes
    waited: bool = False  # it was still being checked


@dataclass
class Person:
    """One of them. `chance` is theirs alone, so what they send does not depend on who is slow."""

    name: str
    token: str
    url: str
    chance: random.Random
    sent: list[Sent] = field(default_factory=list)
    tries: int = 0
    begun: int = 0
    last: str = ""

    async def work(self, way: str, stop: asyncio.Event) -> None:
        """Upload by this way until `stop`; the one under way is brought to its end."""
        ways = {"whole": self._whole, "tus": self._tus, "direct": self._direct, "picture": self._picture}
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout) as self.http:
            while not stop.is_set():
                await ways[way]()
                await asyncio.sleep(0.02)

    # --- ways ---------------------------------------------------------------------------------------------------------

    async def _whole(self) -> None:
        """One request with a key, repeated until it is answered. Some bytes are those of an earlier one."""
        size = self.chance.choice((2_000, 60_000, 400_000, 3_000_000))
        nonce = self.chance.choice(("same", f"{self.name}-{self.begun}"))
        await self._in_one_request("whole", f"{self.begun}.csv", small_of(nonce, size))

    async def _picture(self) -> None:
        """A picture: it is looked into, cleaned and made smaller before anybody sees it."""
        out = io.BytesIO()
        Image.new("RGB", (64, 48), tuple(self.chance.randbytes(3))).save(out, "PNG")
        await self._in_one_request("picture", f"{self.begun}.png", out.getvalue())

    async def _in_one_request(self, way: str, name: str, data: bytes) -> None:
        self.begun += 1
        headers = {"Idempotency-Key": f"{self.name}-{self.begun}", "Content-Type": "application/octet-stream"}
        while True:
            found = await self._try("PUT", f"/files/upload?name={name}", data=data, headers=headers)
            if found is not None:
                return await self._told(way, orjson.loads(found[1]), data)

    async def _tus(self) -> None:
        """Begin, then send from where the upload stands; single requests end early by themselves."""
        self.begun += 1
        size = self.chance.randint(PART_BYTES // 2, 2 * PART_BYTES + 1_000_000)
        data = _film(self.chance, size)
        name = base64.b64encode(f"{self.begun}.mp4".encode()).decode()
        tus = {"Tus-Resumable": "1.0.0"}
        headers = {**tus, "Upload-Length": str(size), "Upload-Metadata": f"filename {name}"}
        while (begun := await self._try("POST", "/files/tus", headers=headers)) is None:
            pass
        place = "/" + begun[0]["Location"].split("/", 3)[3]
        while True:
            head = await self._try("HEAD", place, headers=tus)
            if head is None:
                continue
            offset = int(head[0]["Upload-Offset"])
            if "File-Id" in head[0]:
                file_id = int(head[0]["File-Id"])
                return await self._told("tus", {"file_id": file_id, "state": "checking"}, data)
            headers = {**tus, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            until = min(size, offset + self.chance.randint(1, 6_000_000))
            await self._try("PATCH", place, data=data[offset:until], headers=headers)

    async def _direct(self) -> None:
        """Parts straight into the store, by addresses of ours."""
        self.begun += 1
        size = self.chance.randint(PART_BYTES // 2, PART_BYTES + 1_000_000)
        data = _film(self.chance, size)
        given = {
            "name": f"{self.begun}.mp4", "size_bytes": size, "way": "direct",
            "sha256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        }  # fmt: skip
        upload = await self._act("files.uploads.begin", given)
        numbers = list(range(1, -(-size // PART_BYTES) + 1))
        for number in numbers:
            part = data[(number - 1) * PART_BYTES : number * PART_BYTES]
            while True:
                asked = {"upload_id": upload["upload_id"], "numbers": [number]}
                address = (await self._act("files.uploads.sign_parts", asked))[0]["url"]
                if await self._try("PUT", address, data=part) is not None:
                    break
        file = await self._act("files.uploads.finish", {"upload_id": upload["upload_id"]})
        await self._told("direct", file, data)

    async def _told(self, way: str, file: dict[str, Any], data: bytes) -> None:
        """Remember it; if it is visible, it must be whole now."""
        sent = Sent(int(file["file_id"]), self.name, way, len(data), hashlib.sha256(data).digest())
        self.sent.append(sent)
        if file["state"] == "checking":
            sent.waited = True
        elif file["state"] != "ready":
            raise Refused(f"{way}: {file}")
        elif way != "picture":
            await self.read(sent)

    async def read(self, sent: Sent) -> None:
        """Every byte is there. Raises `Refused`."""
        while (found := await self._try("GET", f"/files/{sent.file_id}")) is None:
            pass
        if sent.way != "picture" and hashlib.sha256(found[1]).digest() != sent.sha256:
            raise Refused(f"{sent}: {len(found[1])} bytes came, and not those that were sent")

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _act(self, action: str, fields: dict[str, Any]) -> Any:
        while (found := await self._try("POST", f"/v1/{action}", json=fields)) is None:
            pass
        return orjson.loads(found[1])

    async def _try(self, method: str, where: str, **given: Any) -> tuple[Any, bytes] | None:
        """Head and body of a good answer; None where it is worth asking again. Raises `Refused`."""
        self.tries += 1
        ours = where.startswith("/")
        headers = dict(given.pop("headers", {}))
        if ours:
            headers["Authorization"] = f"Bearer {self.token}"
        if "data" in given:
            given["data"] = io.BytesIO(given["data"])
        url = self.url + where if ours else where
        try:
            async with self.http.request(method, url, headers=headers, **given) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.last = f"{method} {where.partition('?')[0]}: {error!r}"
            await asyncio.sleep(RETRY_S)
            return None
        self.last = f"{method} {where.partition('?')[0]}: {answer.status} {body[:300]!r}"
        if answer.status in _AGAIN:
            await asyncio.sleep(RETRY_S)
            return None
        if answer.status >= 400:
            raise Refused(self.last)
        return answer.headers, body


def _film(chance: random.Random, size_bytes: int) -> bytes:
    head = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"
    return head + chance.randbytes(size_bytes - len(head))
