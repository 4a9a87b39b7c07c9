"""A login at the gateway, over HTTP, and the access tokens that come from it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from hub.chat.second import Ask, complete
from hub.client import Closed, HubError, Token

FRESH_S: Final = 90.0  # a token with less left is renewed before it is used
REQUEST_S: Final = 15.0
SILENCE_S: Final = (
    120.0  # of a request that moves a file: it takes as long as it takes, while something moves
)


class Account:
    """One person's session. The password stays in memory, for when the session ends before the chat does."""

    def __init__(self, gateway_url: str, login: str, password: str, device: str) -> None:
        self._url = gateway_url.rstrip("/")
        self._login, self._password, self._device = login, password, device
        self._http: aiohttp.ClientSession | None = None
        self._session: Mapping[str, Any] = {}

    async def __aenter__(self) -> Account:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    @property
    def person(self) -> Mapping[str, Any]:
        """Who this is: person_id, name."""
        person: Mapping[str, Any] = self._session["person"]
        return person

    @property
    def enterprise(self) -> Mapping[str, Any]:
        """Where: enterprise_id, name, roles; only a name where one belongs nowhere."""
        enterprise: Mapping[str, Any] | None = self._session["enterprise"]
        return enterprise or {"name": "尚未加入企业"}

    async def log_in(self, ask: Ask | None = None) -> None:
        """Raises `HubError` for a refusal, `OSError` when the gateway is not there.

        `ask`: for a second factor, where one is needed; `NoFactor` where it is not given.
        """
        fields = {
            "login": self._login, "password": self._password, "device": self._device, "platform": "terminal",
        }  # fmt: skip
        session: Mapping[str, Any] | None = None
        while session is None:
            try:
                session = await self._post("gateway.identity.login", fields)
            except HubError as error:
                if ask is None or error.detail.get("code") != "second_factor_required":
                    raise
                session = await complete(self._post, ask, error.detail, self._device, "terminal")
        self._session = session

    async def log_out(self) -> None:
        """Ends the session on the server too."""
        await self._post("gateway.identity.logout", {}, bearer=str(self._session.get("access_token")))

    async def token(self) -> Token:
        """An access token with some life left: the client's provider. Raises `Closed` when there will be none."""
        left_s = self._session["access_expires_ms"] / 1000 - time.time()
        if left_s < FRESH_S:
            fields = {"refresh_token": self._session["refresh_token"], "device": self._device}
            try:
                self._session = await self._post("gateway.identity.refresh", fields)
            except HubError as error:
                if error.temporary:
                    raise
                try:
                    await self.log_in()
                except HubError as final:
                    if final.temporary:
                        raise
                    if final.detail.get("code") == "second_factor_required":
                        raise Closed(4500, "登录已到期，请重新运行并完成两步验证") from error
                    raise Closed(4500, final.message) from error
        return Token(str(self._session["access_token"]), int(self._session["access_expires_ms"]))

    async def call(self, action: str, fields: Mapping[str, Any]) -> Any:
        """What an action answers. Raises `HubError` for a refusal."""
        return await self._post(action, fields, bearer=(await self.token()).value)

    @asynccontextmanager
    async def ask(self, method: str, path: str, **given: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request of this person's that moves a file. Raises `HubError` for a refusal and for a broken connection."""
        assert self._http is not None
        headers = {**given.pop("headers", {}), "Authorization": f"Bearer {(await self.token()).value}"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_S, sock_read=SILENCE_S)
        try:
            async with self._http.request(
                method, self._url + path, headers=headers, timeout=timeout, **given
            ) as answer:
                if answer.status >= 400:
                    raise _refusal(await answer.json(content_type=None))
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise HubError("unavailable", type(error).__name__, temporary=True) from error

    async def _post(
        self, action: str, fields: Mapping[str, Any], bearer: str | None = None
    ) -> Mapping[str, Any]:
        assert self._http is not None
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        url = f"{self._url}/v1/{action}"
        async with self._http.post(url, json=dict(fields), headers=headers) as answer:
            body = await answer.json(content_type=None)
            if answer.status >= 400:
                raise _refusal(body)
            return body or {}


def _refusal(body: Mapping[str, Any]) -> HubError:
    return HubError(
        body.get("code", "internal"), body.get("detail", ""), temporary=bool(body.get("temporary")),
        retry_ms=body.get("retry_ms") or 0, detail=body.get("errors"),
    )  # fmt: skip
