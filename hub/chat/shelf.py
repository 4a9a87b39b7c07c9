"""Files to the bank and back over its HTTP doors, for a chat in a terminal (`hub.chat.ports.Shelf`)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from hub.chat.account import Account
from hub.chat.ports import FileRefused
from hub.client import Entry, HubError

CHUNK_BYTES: Final = 256 << 10
CHECKING_S: Final = (
    120.0  # a scanner that is away, or a long line before it; then the file is there but not sent
)
_POLL_S: Final = 0.5
_TRIES: Final = 1000  # names beside one that is taken


class DoorShelf:
    """See the module. Saved files go into `folder`."""

    def __init__(self, account: Account, folder: Path) -> None:
        self._account, self._folder = account, folder

    async def upload(self, path: Path) -> tuple[str, Mapping[str, Any]]:
        """See `Shelf`."""
        file = await asyncio.to_thread(path.open, "rb")
        with file:
            size = await asyncio.to_thread(file.seek, 0, 2)
            await asyncio.to_thread(file.seek, 0)
            found = await self._sent(path.name, size, file)
        deadline_s = asyncio.get_running_loop().time() + CHECKING_S
        while found["state"] == "checking":
            if asyncio.get_running_loop().time() >= deadline_s:
                raise FileRefused("文件还在安全检查中，请稍后再发")
            await asyncio.sleep(_POLL_S)
            found = (await self._account.call("files.library.get", {"file_ids": [found["file_id"]]}))[0]
        if found["state"] != "ready":
            raise FileRefused("文件没有通过安全检查")
        body = {
            "file_id": str(found["file_id"]), "name": found["name"], "size": found["size_bytes"],
            "type": found["media_type"],
        }  # fmt: skip
        if not found["media_type"].startswith("image/"):
            return "file", body
        return "image", body | {side: found["facts"][side] for side in ("width", "height")}

    async def _sent(self, name: str, size: int, file: IO[bytes]) -> Mapping[str, Any]:
        try:
            async with self._account.ask(
                "POST", "/files/upload", params={"name": name}, data=_chunks(file) if size else b"",
                headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
            ) as answer:  # fmt: skip
                found: Mapping[str, Any] = await answer.json()
                return found
        except HubError as error:
            if "quota" in error.detail:
                raise FileRefused("没有足够的空间存放这个文件") from error
            if error.code == "invalid" and "code" in error.detail:  # why, in words for people
                raise FileRefused(error.message) from error
            raise

    async def save(self, entry: Entry) -> Path:
        """See `Shelf`. What does not arrive whole is not left behind."""
        async with self._account.ask("GET", f"/files/{int(entry.body['file_id'])}") as answer:
            path, file = await asyncio.to_thread(_new_file, self._folder, bare(str(entry.body["name"])))
            whole, digest = False, hashlib.sha256()
            try:
                with file:
                    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                        digest.update(chunk)
                        await asyncio.to_thread(file.write, chunk)
                told = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
                whole = answer.headers.get("Repr-Digest", told) == told
            finally:
                if not whole:
                    with suppress(OSError):
                        path.unlink()
        if not whole:
            raise HubError("unavailable", "what came is not what is kept", temporary=True)
        return path


def bare(name: str) -> str:
    """The name of a file in a folder, out of what somebody else calls it: no path, nothing hidden, nothing unseen."""
    last = name.replace("\\", "/").rpartition("/")[2]
    seen = "".join(char for char in last if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    return seen.strip().lstrip(".") or "file"


def _new_file(folder: Path, name: str) -> tuple[Path, IO[bytes]]:
    """Opened for writing under a name that was not taken. Raises `OSError`."""
    wanted = Path(name)
    for number in range(_TRIES):
        path = folder / (name if not number else f"{wanted.stem} ({number}){wanted.suffix}")
        try:
            return path, path.open("xb")
        except FileExistsError:
            continue
    raise FileExistsError(17, "同名文件太多")


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk
