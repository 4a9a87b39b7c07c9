"""The provider's two cookies: who is logged in in this browser, and which browser it is.

`__Host-` makes browsers refuse them from other hosts, other paths and plain http, so that a page on a neighbouring host
cannot set them for us; whoever sends one twice is answered as if there were none.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

LOGIN: Final = "__Host-bankhub"
DEVICE: Final = "__Host-bankhub-device"
_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_YEAR_S: Final = 31_536_000


def read(request: BaseRequest, name: str) -> str | None:
    """The value, if it is there exactly once and may be one of ours."""
    found = [
        value
        for header in request.headers.getall("Cookie", [])
        for key, _, value in (one.strip().partition("=") for one in header.split(";"))
        if key == name
    ]
    return found[0] if len(found) == 1 and _VALUE.fullmatch(found[0]) else None


def write(answer: web.Response, name: str, value: str) -> None:
    """Set a cookie; an empty value takes it away. The login ends with the browser, the device stays."""
    age = "; Max-Age=0" if not value else f"; Max-Age={_YEAR_S}" if name == DEVICE else ""
    answer.headers.add("Set-Cookie", f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}")
