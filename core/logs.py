"""Logs are events: one JSON object a line, a static event name, data in fields, ids and never contents.

Redaction is the second line of defence (the first is not to log contents): fields whose name says that they hold
secrets or personal data are blanked, strings are scrubbed of tokens, phone numbers and passwords in addresses, and
of an exception only the types and places are written, because messages of drivers and validators quote values.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, TextIO

import orjson
import structlog

from core.classification import Class, by_name
from core.errors import BankhubError
from core.telemetry import current_fields

REDACTED: Final = "[redacted]"

_WORDS: Final = frozenset(
    "password passwd passphrase secret token authorization cookie credential phone mobile email account card "
    "body content contents text otp pin idcard dsn".split()
)
_NAMES: Final = frozenset(
    "name login login_name full_name real_name person_name display_name user_name username address_line".split()
)
_SCRUB: Final = (
    (re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), "[token]"),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), r"\1***@"),
    (re.compile(r"(?<![0-9])(?:\+?86[- ]?)?1[3-9][0-9]{9}(?![0-9])"), "[phone]"),
)
_DEPTH: Final = 6


def sensitive(field: str) -> bool:
    """Whether a field of this name is blanked in logs."""
    lowered = field.lower()
    if by_name(lowered) in (Class.C2, Class.C3):
        return True
    return lowered in _NAMES or not _WORDS.isdisjoint(re.split(r"[^a-z]+", lowered))


def redact(value: Any, depth: int = 0) -> Any:
    """`value` fit for a log: sensitive fields blanked, strings scrubbed, bytes and deep things replaced."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        for pattern, instead in _SCRUB:
            value = pattern.sub(instead, value)
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if depth >= _DEPTH:
        return "[deep]"
    if isinstance(value, Mapping):
        return {str(k): REDACTED if sensitive(str(k)) else redact(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    return redact(str(value), depth)


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for field, value in event.items():
        if field not in ("event", "exc_info", "exception", "timestamp", "level", "logger"):
            event[field] = REDACTED if sensitive(field) else redact(value)
        elif field == "event":
            event[field] = redact(value)
    return event


def _describe(error: BaseException, trace: TracebackType | None) -> dict[str, Any]:
    kind = type(error)
    described: dict[str, Any] = {"type": f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(error, BankhubError):
        described["message"] = redact(error.message)
    described["frames"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(trace)[-20:]]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        described["cause"] = _describe(cause, cause.__traceback__)
    return described


def _exceptions(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[1] is not None:
        event["exception"] = _describe(info[1], info[2])
    return event


def _render(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _add_span(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for field, value in current_fields().items():
        event.setdefault(field, value)
    return event


def _add(field: str, value: str) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault(field, value)
        return event

    return add


class _Stream(logging.Handler):
    """Writes finished lines; a broken pipe at shutdown is nobody's problem."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass


def configure_logs(level: str = "info", stream: TextIO | None = None, *, node: str | None = None) -> None:
    """Send every log of this process, ours and libraries', as JSON lines to `stream` (default: standard error)."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_span,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_add("node", node)] if node else []),
    ]
    finish: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _exceptions,
        _redact_event,
        _render,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _Stream(stream or sys.stderr)
    # libraries interpolate their arguments into the message; the message is scrubbed like any string
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=finish))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(max(root.level, logging.INFO))
    logging.getLogger("websockets").setLevel(max(root.level, logging.WARNING))  # a line for each connection
    logging.getLogger("aiohttp.access").disabled = True
