"""A key management system: keeps one key that never leaves it, and wraps data keys with that (envelope encryption).

    POST {url}/v1/keys/{key}/wrap     {"plaintext": base64}   →  {"ciphertext": base64}
    POST {url}/v1/keys/{key}/unwrap   {"ciphertext": base64}  →  {"plaintext": base64}

with a bearer token. This is the smallest thing every KMS can be adapted to; the one of a bank gets its own `Kms` here.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, urlsplit

import orjson

from core.errors import Invalid, Unavailable
from core.keys import read_secret
from core.settings import Settings

_ANSWER_BYTES: Final = 64 << 10


class Kms(Protocol):
    """Wraps and unwraps data keys. Blocks: used at start, and beside the event loop's thread."""

    def wrap(self, data_key: bytes) -> bytes:
        """Raises `Unavailable`."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """Raises `Unavailable`, or `Invalid` for what was not wrapped here."""
        ...


class HttpKms:
    """A KMS over HTTP(S). Over plain HTTP only to this machine: there a sidecar does the TLS."""

    def __init__(self, url: str, key: str, token_file: Path | None, *, timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        if parts.hostname is None or (
            not self._secure and parts.hostname not in ("127.0.0.1", "::1", "localhost")
        ):
            raise Invalid("a KMS on another machine is called over https")
        self._host, self._port, self._timeout_s = parts.hostname, parts.port, timeout_s
        self._path = f"{parts.path.rstrip('/')}/v1/keys/{quote(key, safe='')}"
        self._token_file = token_file

    def wrap(self, data_key: bytes) -> bytes:
        """See `Kms`."""
        return self._ask("wrap", "plaintext", data_key, "ciphertext")

    def unwrap(self, wrapped: bytes) -> bytes:
        """See `Kms`."""
        return self._ask("unwrap", "ciphertext", wrapped, "plaintext")

    def _ask(self, verb: str, given: str, value: bytes, wanted: str) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {read_secret(self._token_file).decode().strip()}"
        body = orjson.dumps({given: base64.b64encode(value).decode()})
        connection = self._connection()
        try:
            connection.request("POST", f"{self._path}/{verb}", body, headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read(_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("the KMS does not answer") from error
        finally:
            connection.close()
        if status >= 500 or status == 429:
            raise Unavailable(f"the KMS answers {status}")
        if status != 200:
            raise Invalid(f"the KMS refuses with {status}")
        try:
            return base64.b64decode(orjson.loads(text)[wanted], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable("the KMS answers something else") from error

    def _connection(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=context)


def kms_of(settings: Settings) -> Kms | None:
    """The KMS that settings name."""
    if settings.kms_url is None:
        return None
    return HttpKms(
        settings.kms_url, settings.kms_key, settings.kms_token_file, timeout_s=settings.kms_timeout_s
    )
