"""Doors: paths of the HTTP edge behind which bytes stream, in or out, so that no body is read before its handler.

The edge has decided on host, origin, limits and who calls; what may be done is decided by the actions that a door's
handler performs, so that permission, audit and limits are theirs and are not said twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.web_request import BaseRequest

    from core.access import Principal
    from core.context import Source
    from core.telemetry import Trace


@dataclass(frozen=True, slots=True)
class Visit:
    """One request at a door."""

    request: BaseRequest
    path: str  # behind the door's prefix, as sent
    origin: str  # scheme://host, as the client knows us
    principal: Principal | None
    source: Source
    trace: Trace
    headers: Mapping[str, str]  # which every answer carries
    on_refusal: dict[str, str] = field(default_factory=dict)  # what the door wants in the head of a refusal


@dataclass(frozen=True, slots=True)
class Door:
    """`handle` answers every path that begins with `prefix`; errors it raises become problem details.

    An answer that streams is prepared with `Visit.headers`, a refusal carries `Visit.on_refusal` too. `methods` and the
    `allowed` and `exposed` header fields are what pages of origins that may call are told (CORS), on top of what the
    edge itself uses.

    `apart` is (host, prefix): this host answers paths with this prefix and nothing else, and no other host answers
    them. What strangers have made is then never of the same origin as a page of ours.
    """

    name: str  # in the audit, where somebody is refused
    prefix: str
    handle: Callable[[Visit], Awaitable[web.StreamResponse]]
    methods: tuple[str, ...]
    allowed: tuple[str, ...] = field(default=())
    exposed: tuple[str, ...] = field(default=())
    apart: tuple[str, str] | None = None


def go_on(request: BaseRequest) -> None:
    """Tell a client that asked first (``Expect: 100-continue``, RFC 9110, 10.1.1) that its body is wanted now.

    aiohttp's low-level server leaves that to us. Call it when nothing more can be refused without the body.
    """
    expected = request.headers.get("Expect", "").strip().lower()
    if expected == "100-continue" and request.version >= HttpVersion11 and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
