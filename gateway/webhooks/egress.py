"""The way out: one POST to an address that was checked, without redirects, with limits on time and size.

The name is resolved here, every address is checked, and the connection goes to a checked address: whatever the name
means a moment later (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from core.settings import Settings
from gateway.webhooks.rules import public_address, refused_url

ANSWER_BYTES: Final = 64 << 10  # read and thrown away, so that connections end well
_LOOKUPS: Final = 64  # as many as the sender sends at once


class NotAllowed(OSError):
    """Nothing is sent to this address."""


class CheckedResolver(AbstractResolver):
    """Resolves by the system, and gives public addresses only; one that is not refuses the whole name.

    In threads of its own: who registers names decides how long their name servers take, and others need theirs.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See `AbstractResolver`. Raises `NotAllowed`."""
        found = await self.lookup(host, port, family)
        if not self._private and not all(public_address(one) for _, one in found):
            raise NotAllowed("this host has an address that is not on the internet")
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, address in found
        ]  # fmt: skip

    async def lookup(self, host: str, port: int, family: int) -> list[tuple[int, str]]:
        """(family, address) pairs, as the system knows them."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, socket.getaddrinfo, host, port, family, socket.SOCK_STREAM
        )
        return [(kind, str(address[0])) for kind, _, _, _, address in found]

    async def close(self) -> None:
        """Let go of the threads; one that waits for a name server ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Egress:
    """See the module."""

    def __init__(self, settings: Settings, resolver: CheckedResolver | None = None) -> None:
        self._settings = settings
        self._resolver = resolver or CheckedResolver(private=settings.webhook_private)
        self._session: aiohttp.ClientSession | None = None

    def refused(self, url: str) -> str | None:
        """Why nothing is sent there, by the URL alone."""
        settings = self._settings
        return refused_url(url, plain=settings.webhook_http, private=settings.webhook_private)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int | None, str | None]:
        """(status, error): what the receiver answered, or what kept it from answering. Never raises."""
        why = self.refused(url)
        if why is not None:
            return None, "not allowed"
        try:
            async with asyncio.timeout(self._settings.webhook_timeout_s):
                async with self._opened().post(
                    url, data=body, headers=headers, allow_redirects=False
                ) as answer:
                    left = ANSWER_BYTES
                    async for part in answer.content.iter_any():
                        left -= len(part)
                        if left < 0:
                            answer.close()
                            break
                    return answer.status, None
        except TimeoutError:
            return None, "timeout"
        except NotAllowed:
            return None, "not allowed"
        except aiohttp.ClientConnectorDNSError as error:
            return None, "not allowed" if isinstance(error.os_error, NotAllowed) else "name"
        except (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch):
            return None, "tls"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return None, "not allowed" if isinstance(error.__cause__, NotAllowed) else "connection"

    async def close(self) -> None:
        """Let go of everything."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        await self._resolver.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector: Any = aiohttp.TCPConnector(
                resolver=self._resolver, use_dns_cache=False, force_close=True, limit=64
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=8190,
                max_field_size=8190,
            )
        return self._session
