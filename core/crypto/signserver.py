"""Signing by a signature server (签名验签服务器) over HTTP.

    POST {url}/v1/sign        {"key": handle, "data": base64, "id": text}   →  {"signature": base64 of DER}
    GET  {url}/v1/keys/{key}                                                →  {"public_key": base64 of X.509 DER}

with a bearer token. Products differ in names and wrappings, not in what is asked: the one a bank has is adapted here,
in these two calls. Tried against a server of our own (tests/core/crypto/test_providers.py), never against a product.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import orjson

from core.crypto import encodings, sm2
from core.crypto.encodings import Malformed
from core.crypto.provider import handle_of
from core.crypto.ring import Key
from core.errors import Invalid, Unavailable
from core.keys import read_secret

_ATTEMPTS: Final = 2  # a connection that was kept open may have been closed by the other side


class SignServerProvider:
    """See the module; a `CryptoProvider` whose keys have handles at ``server``."""

    def __init__(self, url: str, token_file: Path | None, timeout_s: float) -> None:
        """Raises `Invalid` for a server on another machine that is not called over https."""
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise Invalid("a signature server on another machine is called over https")
        self._url, self._token_file = url.rstrip("/"), token_file
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def sign(self, key: Key, message: bytes) -> bytes:
        """See `CryptoProvider`. A signature that does not verify is not given out."""
        handle = handle_of(key)
        assert handle is not None, "keys without a handle are signed with by software"
        data = base64.b64encode(message).decode()
        body = {"key": handle.handle, "data": data, "id": sm2.DEFAULT_ID.decode()}
        answer = await self._ask("POST", "/v1/sign", body)
        try:
            made = encodings.signature_from_der(base64.b64decode(answer["signature"], validate=True))
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable("the signature server answers something else") from error
        if not await asyncio.to_thread(sm2.verify, handle.point, message, made):
            raise Unavailable("the signature server signs with another key than the ring says")
        return made

    async def point(self, handle: str) -> bytes:
        """The public key behind a handle, for the ring. Raises `Invalid` where the server has none."""
        answer = await self._ask("GET", f"/v1/keys/{quote(handle, safe='')}", None)
        try:
            return encodings.from_spki(base64.b64decode(answer["public_key"], validate=True))
        except (KeyError, TypeError, ValueError, Malformed) as error:
            raise Invalid(f"the signature server has no SM2 key {handle}") from error

    async def close(self) -> None:
        """See `CryptoProvider`."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, path: str, body: dict[str, str] | None) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        headers = {"Content-Type": "application/json"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {read_secret(self._token_file).decode().strip()}"
        data = None if body is None else orjson.dumps(body)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._session.request(
                    method, self._url + path, data=data, headers=headers, allow_redirects=False
                ) as answer:
                    if answer.status in (404, 400, 422):
                        raise Invalid(f"the signature server refuses with {answer.status}")
                    if answer.status != 200:
                        raise Unavailable(f"the signature server answers {answer.status}")
                    return orjson.loads(await answer.read())
            except (aiohttp.ClientError, TimeoutError) as error:
                if attempt == _ATTEMPTS:
                    raise Unavailable("the signature server does not answer") from error
            except orjson.JSONDecodeError as error:
                raise Unavailable("the signature server answers something else") from error
        raise AssertionError("the last attempt raised")
