"""The tree of refusals and failures: one stable code for HTTP, the hub, logs and the TypeScript types.

    BankhubError
    ├── Invalid           422  the request is not acceptable as it stands
    ├── Unauthenticated   401  nobody, or nobody any more
    ├── Forbidden         403  somebody, but not for this (StepUpRequired: not without confirming it)
    ├── NotFound          404  not there, or not the caller's to see
    ├── Conflict          409  the state or an earlier request says otherwise
    ├── TooManyRequests   429  temporary
    ├── Unavailable       503  temporary
    ├── DeadlineExceeded  504  temporary; the effect may or may not have happened: retry with the same key
    └── Internal          500  a fault of ours; the caller learns the trace id and nothing else

The first line of a class's docstring is its default message. Messages and details go to callers: they name ids and
fields, never contents or personal data. Causes are chained with ``raise … from``.
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class BankhubError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    temporary: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        detail: dict[str, object] | None = None,
        retry_ms: int | None = None,
    ) -> None:
        self.message = message or (inspect.getdoc(type(self)) or type(self).__name__).splitlines()[0]
        self.detail = detail
        self.retry_ms = retry_ms
        self.replayed = False  # the stored refusal of an earlier request with the same idempotency key
        super().__init__(self.message)


class Invalid(BankhubError):
    """The request is not valid."""

    code = "invalid"
    http_status = 422


class Unauthenticated(BankhubError):
    """Please log in."""

    code = "unauthenticated"
    http_status = 401


class Forbidden(BankhubError):
    """This is not permitted."""

    code = "forbidden"
    http_status = 403


class StepUpRequired(Forbidden):
    """Confirm this first: gateway.stepup.begin says how."""


class NotFound(BankhubError):
    """There is no such thing, or it is not yours to see."""

    code = "not_found"
    http_status = 404


class Conflict(BankhubError):
    """The request conflicts with what is already there."""

    code = "conflict"
    http_status = 409


class TooManyRequests(BankhubError):
    """Too many requests; try again later."""

    code = "too_many_requests"
    http_status = 429
    temporary = True


class Unavailable(BankhubError):
    """Not available at the moment; try again later."""

    code = "unavailable"
    http_status = 503
    temporary = True


class DeadlineExceeded(BankhubError):
    """The deadline passed before the answer was there; the effect is unknown, so retry with the same key."""

    code = "deadline_exceeded"
    http_status = 504
    temporary = True


class Internal(BankhubError):
    """Something went wrong on our side."""

    code = "internal"
    http_status = 500


TREE: tuple[type[BankhubError], ...] = (
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    Conflict,
    TooManyRequests,
    Unavailable,
    DeadlineExceeded,
    Internal,
)
BY_CODE: dict[str, type[BankhubError]] = {error.code: error for error in TREE}


def from_code(
    code: str,
    message: str | None = None,
    *,
    detail: dict[str, object] | None = None,
    retry_ms: int | None = None,
) -> BankhubError:
    """The error that another process reported; a code this version does not know becomes `Internal`."""
    return BY_CODE.get(code, Internal)(message, detail=detail, retry_ms=retry_ms)


def problem(error: BankhubError, *, trace_id: str, status: int | None = None) -> dict[str, object]:
    """RFC 9457 problem details of an error; `status` overrides where HTTP has a finer one (413, 415)."""
    body: dict[str, object] = {
        "type": f"urn:bankhub:error:{error.code}",
        "title": error.code.replace("_", " "),
        "status": status or error.http_status,
        "detail": error.message,
        "code": error.code,
        "temporary": error.temporary,
        "trace_id": trace_id,
    }
    if error.retry_ms is not None:
        body["retry_ms"] = error.retry_ms
    if error.detail:
        body["errors"] = error.detail
    return body
