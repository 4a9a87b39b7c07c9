"""A call does not know where it lands: in process when the service is here, else over HTTP with msgpack.

Configuration says where a service is that is not here (``BANKHUB_SERVICE_<NAME>_URL``). Both ways raise the same
errors, honour the same deadline and key, and carry the caller and the trace; `tests/contract/test_calls.py` holds
them to it. What differs is the transaction: see `Context.call`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import aiohttp

from core.codec import pack, unpack
from core.context import Source
from core.dispatch import Call, Dispatcher, Outcome
from core.errors import (
    BankhubError,
    DeadlineExceeded,
    Internal,
    Invalid,
    Unavailable,
    from_code,
)
from core.telemetry import Trace, current_trace, new_trace
from core.tokens import ServiceCall, ServiceTokens
from core.values import WIRE

if TYPE_CHECKING:
    from core.actions import Command, Principal
    from core.calls_server import InternalServer
    from core.runtime import Runtime
    from core.service import Service

R = TypeVar("R")

PATH: Final = "/internal/v1/"
CONTENT_TYPE: Final = "application/msgpack"
REPLAYED: Final = "Idempotent-Replayed"


class Answer(NamedTuple):
    """What an edge sends on: plain values with ids as text (`core.values.WIRE`), bytes as bytes."""

    value: Any
    replayed: bool


class Calls:
    """The services of this process and the way to all others. Opened by `core.service.Host`."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._dispatcher: Dispatcher | None = None
        self._here: Mapping[str, Service] = {}
        self._session: aiohttp.ClientSession | None = None
        self._tokens: ServiceTokens | None = None
        self._server: InternalServer | None = None

    async def open(self, runtime: Runtime, services: Mapping[str, Service]) -> None:
        """Begin. Where ``BANKHUB_INTERNAL_PORT`` is set, other processes can call in from now on."""
        settings = runtime.settings
        self._runtime, self._here = runtime, services
        self._dispatcher = Dispatcher(runtime, services)
        if settings.service_urls or settings.internal_port is not None:
            self._tokens = ServiceTokens(settings, runtime.clock)
        if settings.internal_port is not None:
            from core.calls_server import InternalServer  # that module needs this one

            assert self._tokens is not None
            self._server = InternalServer(runtime, self._dispatcher, self._tokens, services)
            await self._server.start()

    async def close(self) -> None:
        """End: no calls come in, running ones have finished or been cancelled."""
        if self._server is not None:
            await self._server.stop()
            self._server = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def dispatcher(self) -> Dispatcher:
        """The door of this process, for those who deliver events."""
        if self._dispatcher is None:
            raise Internal("calls are not open")
        return self._dispatcher

    @property
    def internal_port(self) -> int | None:
        """Where other processes call in, if they can; the real port where 0 was configured."""
        return None if self._server is None else self._server.port

    # --- for services ---------------------------------------------------------------------------------------------

    async def call(
        self,
        command: Command[R],
        *,
        principal: Principal | None = None,
        deadline_s: float | None = None,
        key: str | None = None,
        trace: Trace | None = None,
        source: Source | None = None,
    ) -> R:
        """Call an action as one of our services, on behalf of `principal`. Inside a handler use `ctx.call`.

        `deadline_s` from now (default: ``call_timeout_s``). Raises errors of `core.errors` only.
        """
        call = self._call(principal, deadline_s, key, trace, source, internal=True)
        outcome = await self.send(command, call, caller="")
        result: R = outcome.result
        return result

    async def send(self, command: Command[Any], call: Call, *, caller: str) -> Outcome:
        """`call` with everything spelt out; `caller` is the name of the calling service."""
        name = command.action_name
        if name.partition(".")[0] in self._here:
            return await self.dispatcher.run(name, command, call)
        body = pack(command.model_dump(context=WIRE))
        value, replayed = await self._send(name, body, call, caller)
        return Outcome(command.result.validate_python(value), replayed)

    # --- for edges ------------------------------------------------------------------------------------------------

    async def perform(
        self,
        name: str,
        fields: object,
        *,
        principal: Principal | None,
        source: Source,
        deadline_s: float | None = None,
        key: str | None = None,
        trace: Trace | None = None,
        step_up: int | None = None,
    ) -> Answer:
        """Carry out what a caller from outside asked for: `fields` are unchecked, internal actions do not exist.

        Raises errors of `core.errors` only.
        """
        call = self._call(principal, deadline_s, key, trace, source, internal=False, step_up=step_up)
        if name.partition(".")[0] in self._here:
            action = self._open.registry.get(name)
            outcome = await self.dispatcher.run(
                name, fields if isinstance(fields, Mapping) else {"": fields}, call
            )
            return Answer(action.command.result.dump_python(outcome.result, context=WIRE), outcome.replayed)
        value, replayed = await self._send(name, pack(fields), call, "")
        return Answer(value, replayed)

    # --- inside ---------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> Runtime:
        if self._runtime is None:
            raise Internal("calls are not open")
        return self._runtime

    def _call(
        self,
        principal: Principal | None,
        deadline_s: float | None,
        key: str | None,
        trace: Trace | None,
        source: Source | None,
        *,
        internal: bool,
        step_up: int | None = None,
    ) -> Call:
        runtime = self._open
        allowed_s = runtime.settings.call_timeout_s if deadline_s is None else deadline_s
        return Call(
            principal=principal,
            deadline=runtime.clock.monotonic_s() + allowed_s,
            trace=trace or current_trace() or new_trace(runtime.rng),
            source=source or Source(),
            key=key,
            internal=internal,
            step_up=step_up,
        )

    async def _send(self, name: str, body: bytes, call: Call, caller: str) -> tuple[Any, bool]:
        runtime, service = self._open, name.partition(".")[0]
        url = runtime.settings.service_urls.get(service)
        if url is None or self._tokens is None:
            runtime.registry.get(name)  # raises NotFound: neither here nor anywhere we know of
            raise Internal(f"{name} is registered but its service is not here")
        if len(body) > runtime.settings.call_body_bytes:
            raise Invalid("the request is too large")
        left_s = call.deadline - runtime.clock.monotonic_s()
        if left_s <= 0:
            raise DeadlineExceeded
        token = self._tokens.sign(
            service,
            name,
            body,
            ServiceCall(
                caller=caller or runtime.node,
                principal=call.principal,
                deadline_s=left_s,
                traceparent=call.trace.traceparent,
                key=call.key,
                source=(call.source.address, call.source.edge, call.source.agent),
                internal=call.internal,
                step_up=call.step_up,
            ),
        )
        headers = {"Authorization": f"Bearer {token}", "Content-Type": CONTENT_TYPE}
        try:
            async with asyncio.timeout(left_s):
                return await self._post(f"{url}{PATH}{name}", headers, body)
        except TimeoutError as error:
            raise DeadlineExceeded from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"service {service} cannot be reached", retry_ms=500) from error

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> tuple[Any, bool]:
        limit = self._open.settings.call_body_bytes
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, limit_per_host=self._open.settings.call_connections)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
            )
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            if answer.content_type != CONTENT_TYPE:
                raise Unavailable("what answered is not one of our services", retry_ms=500)
            data = await read_up_to(answer.content, limit)
            if data is None:
                raise Internal("the answer is too large")
            value = unpack(data)
            if answer.status == 200:
                return value, answer.headers.get(REPLAYED) == "true"
            raise _refusal(value)


async def read_up_to(stream: aiohttp.StreamReader, limit_bytes: int) -> bytes | None:
    """The whole of `stream`, or None as soon as it is longer than `limit_bytes`."""
    parts, length = [], 0
    async for part in stream.iter_any():
        length += len(part)
        if length > limit_bytes:
            return None
        parts.append(part)
    return b"".join(parts)


def _refusal(value: Any) -> BankhubError:
    if not isinstance(value, dict):
        return Internal()
    refusal = from_code(
        str(value.get("code")),
        value.get("message"),
        detail=value.get("detail"),
        retry_ms=value.get("retry_ms"),
    )
    refusal.replayed = value.get("replayed") is True
    return refusal
