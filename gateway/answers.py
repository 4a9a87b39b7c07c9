"""What answers and refusals of the edge look like, and how a body is read."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Final, TypeVar

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict

from core.calls import REPLAYED, read_up_to
from core.doors import go_on
from core.dpop import BadProof
from core.errors import BankhubError, Invalid, Unauthenticated, problem
from core.limits import Exhausted, headers
from core.telemetry import Trace

if TYPE_CHECKING:
    from core.settings import Settings

A = TypeVar("A", bound=web.StreamResponse)

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"

HEADERS: Final = {
    "Server": "bankhub",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), camera=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
ACTION_HEADERS: Final = CIMultiDict({**HEADERS, "Content-Type": JSON})


class Refusal(Exception):
    """A refusal with a finer HTTP status than its code has."""

    def __init__(self, status: int, error: BankhubError, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.error = error
        self.headers = headers or {}
        super().__init__(status)


async def read_body(
    request: BaseRequest, settings: Settings, content_type: str, most_bytes: int | None = None
) -> bytes:
    """The body, if it has this type, is small enough (by default `gateway_body_bytes`) and comes in time.

    Raises refusals with the statuses 408, 413 and 415.
    """
    most_bytes = most_bytes or settings.gateway_body_bytes
    if request.content_type != content_type or (request.charset or "utf-8").lower() != "utf-8":
        raise Refusal(415, Invalid(f"the body is {content_type} in UTF-8"))
    if "Content-Encoding" in request.headers:
        raise Refusal(415, Invalid("the body is not compressed"))
    if (request.content_length or 0) > most_bytes:
        raise _too_large(most_bytes)
    if request.content.is_eof():  # all of it came with the head
        whole = request.content.read_nowait()
        if len(whole) > most_bytes:
            raise _too_large(most_bytes)
        return whole
    go_on(request)
    try:
        async with asyncio.timeout(settings.gateway_body_timeout_s):
            body = await read_up_to(request.content, most_bytes)
    except HttpProcessingError:
        raise Refusal(400, Invalid("the body is not framed as HTTP"), {"Connection": "close"}) from None
    except TimeoutError:
        raise Refusal(408, Invalid("the body came too slowly"), {"Connection": "close"}) from None
    if body is None:
        raise _too_large(most_bytes)
    return body


def _too_large(most_bytes: int) -> Refusal:
    return Refusal(413, Invalid(f"the body is at most {most_bytes} bytes"))


def refused(error: BankhubError, trace: Trace, status: int | None = None) -> web.Response:
    """Problem details of an error."""
    body = problem(error, trace_id=trace.trace_id, status=status)
    answer = web.Response(
        status=status or error.http_status, body=orjson.dumps(body, default=str), content_type=PROBLEM
    )
    if error.replayed:
        answer.headers[REPLAYED] = "true"
    if error.retry_ms is not None:
        answer.headers["Retry-After"] = str(max(1, -(-error.retry_ms // 1000)))
    if isinstance(error, Exhausted):
        answer.headers.update(headers(error.quota))
    if isinstance(error, Unauthenticated):
        bad = ', error="invalid_dpop_proof"' if isinstance(error, BadProof) else ""
        answer.headers["WWW-Authenticate"] = f'Bearer, DPoP algs="ES256 SM2"{bad}'
    return answer


def finished(answer: A, trace: Trace) -> A:
    """The answer with what every answer has."""
    if "Server" not in answer.headers:
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
    answer.headers["Trace-Id"] = trace.trace_id
    return answer


def plain(value: object) -> object:
    """What orjson cannot write by itself."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
