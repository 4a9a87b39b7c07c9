"""The SMS platform over HTTP: signed JSON, a time limit, and retries under one id, so that nobody gets it twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import aiohttp
import orjson

from core.clock import Clock
from core.errors import Invalid
from core.rng import Rng
from core.settings import Settings
from gateway.ports import SmsFailed, SmsRefused
from gateway.sms.signing import KEY_ID, NONCE, SIGNATURE, TIME, signature
from gateway.sms.templates import text

_AGAIN: Final = (408, 425, 429)  # and 5xx: later it may take it


class HttpSms:
    """POSTs ``{id, phone, template, params, text}`` to ``sms_url``. Redirects are not followed: they lose the phone."""

    def __init__(self, settings: Settings, clock: Clock, rng: Rng) -> None:
        """Raises `Invalid` where the secret is missing."""
        if settings.sms_url is None or settings.sms_secret is None:
            raise Invalid("BANKHUB_SMS_URL needs BANKHUB_SMS_SECRET beside it")
        self._url, self._key_id = settings.sms_url, settings.sms_key_id
        self._secret = settings.sms_secret.get_secret_value().encode()
        self._timeout = aiohttp.ClientTimeout(total=settings.sms_timeout_s)
        self._attempts, self._pause_s = settings.sms_attempts, settings.sms_retry_s
        self._clock, self._rng = clock, rng
        self._session: aiohttp.ClientSession | None = None

    async def send(self, phone: str, template: str, params: Mapping[str, str]) -> None:
        """See `SmsSender`."""
        body = orjson.dumps(
            {
                "id": self._rng.token(),
                "phone": phone,
                "template": template,
                "params": dict(params),
                "text": text(template, params),
            }
        )
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(self._pause_s * 2 ** (attempt - 1) * (0.5 + self._rng.random()))
            status = await self._post(body)
            if status is not None and 200 <= status < 300:
                return
            if status is not None and status < 500 and status not in _AGAIN:
                raise SmsRefused(f"the SMS platform answered {status}")
        raise SmsFailed

    async def close(self) -> None:
        """See `SmsSender`."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, body: bytes) -> int | None:
        """The status; None where there was no answer in time."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        time_ms, nonce = self._clock.now_ms(), self._rng.token()
        headers = {
            "Content-Type": "application/json",
            KEY_ID: self._key_id,
            TIME: str(time_ms),
            NONCE: nonce,
            SIGNATURE: signature(self._secret, time_ms, nonce, body),
        }
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
