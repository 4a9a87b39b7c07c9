"""Logs that say nothing they should not, traces that arrive everywhere, spans that reach a collector."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from core import telemetry
from core.errors import Conflict
from core.logs import REDACTED, configure_logs, redact, sensitive
from core.rng import SeededRng
from core.telemetry import extract, inject, new_trace, parse_trace, span

CANARIES = {
    "password": "correct horse battery",
    "new_password": "staple-7261",
    "refresh_token": "q8Zx0000canary1111",
    "access_token": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "authorization": "Bearer abcdefghijkl",
    "phone": "13912345678",
    "name": "王小明",
    "full_name": "欧阳震华",
    "body": "我们下午三点签合同",
    "account": "6222020000001234567",
    "payee_account": "6222020000007654321",
    "id_card": "410105199001011234",
    "database_dsn": "host=x password=y",
}


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, saved = root.handlers[:], root.level, structlog.get_config()
    stream = io.StringIO()
    configure_logs("debug", stream, node="n1")
    yield stream
    structlog.configure(**saved)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").disabled = False


def _events(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_no_canary_reaches_a_line(lines: io.StringIO) -> None:
    log = structlog.get_logger("test")
    log.info("test.fields", person_id=5, **CANARIES)
    log.info("test.nested", detail={"rows": [dict(CANARIES)], "deep": {"a": {"b": {"c": dict(CANARIES)}}}})
    log.info("test.text", why=f"call {CANARIES['phone']} with {CANARIES['access_token']}")
    log.info("test.bytes", payload=CANARIES["body"].encode())
    log.info("test.url", url="postgresql://bankhub:s3cr3t-canary@127.0.0.1/x")
    logging.getLogger("library").warning("phone %s token %s", CANARIES["phone"], CANARIES["access_token"])
    try:
        try:
            raise ValueError(f"Key (name)=({CANARIES['name']}) {CANARIES['password']}")
        except ValueError as error:
            raise RuntimeError(CANARIES["body"]) from error
    except RuntimeError:
        log.exception("test.failed")
    text = lines.getvalue()
    for canary in (*CANARIES.values(), "s3cr3t-canary"):
        assert canary not in text
        assert json.dumps(canary)[1:-1] not in text
    events = _events(lines)
    assert events[0]["person_id"] == 5
    assert events[0]["password"] == REDACTED
    assert events[-1]["exception"]["type"] == "builtins.RuntimeError"
    assert events[-1]["exception"]["cause"]["type"] == "builtins.ValueError"


def test_our_own_refusals_keep_their_message(lines: io.StringIO) -> None:
    try:
        raise Conflict("the last administrator cannot leave")
    except Conflict:
        structlog.get_logger("test").exception("test.refused")
    assert _events(lines)[0]["exception"]["message"] == "the last administrator cannot leave"


def test_ids_come_by_themselves(lines: io.StringIO) -> None:
    trace = new_trace(SeededRng(1))
    with (
        structlog.contextvars.bound_contextvars(session_id=7),
        span("x", trace, SeededRng(2), action="cards.rename") as inside,
    ):
        structlog.get_logger("test").info("test.inside")
    structlog.get_logger("test").info("test.outside")
    inner, outer = _events(lines)
    assert (inner["trace_id"], inner["span_id"], inner["session_id"]) == (trace.trace_id, inside.span_id, 7)
    assert (inner["node"], inner["action"]) == ("n1", "cards.rename")
    assert "trace_id" not in outer
    assert "action" not in outer


@pytest.mark.parametrize(
    "field", ["event_id", "count", "handler", "username_digest", "node", "stream_id", "attempt"]
)
def test_ordinary_fields_stay(field: str) -> None:
    assert not sensitive(field)


@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.floats(), st.builds(object)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_anything_can_be_redacted(value: Any) -> None:
    json.dumps(redact(value))


def test_traceparents() -> None:
    trace = new_trace(SeededRng(1))
    assert parse_trace(trace.traceparent) == trace
    assert trace.child(SeededRng(2)).trace_id == trace.trace_id
    for wrong in (
        None,
        "",
        "x",
        trace.traceparent[:-1],
        trace.traceparent.upper(),
        f"ff{trace.traceparent[2:]}",
    ):
        assert parse_trace(wrong) is None


def test_frames_carry_traces() -> None:
    trace = new_trace(SeededRng(1))
    frame = [15, 7, "x.y", {}, None, 1000]
    assert extract(inject(frame, trace), 6) == trace
    assert extract(frame, 6) is None
    assert extract([*frame, 5], 6) is None


async def test_spans_reach_a_collector() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from aiohttp import web

    got: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.read())
        return web.Response(body=b"", content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    end = telemetry.export_spans(url, "bankhub", "n1")
    trace = new_trace(SeededRng(1))
    with span("outer", trace, SeededRng(2)) as outer:
        assert outer.trace_id == trace.trace_id
        with pytest.raises(Conflict), span("inner", outer, SeededRng(3), event_id=5):
            raise Conflict
    await asyncio.to_thread(end)
    await runner.cleanup()
    sent = b"".join(got)
    assert bytes.fromhex(trace.trace_id) in sent
    assert b"inner" in sent
    assert b"conflict" in sent


def test_without_the_exporter_a_configured_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from core.errors import Invalid

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(Invalid):
        telemetry.export_spans("http://127.0.0.1:1/v1/traces", "bankhub", "n1")
