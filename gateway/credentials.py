"""What a request brings along to say who calls: a token, and the proof of the key that it is bound to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.web_request import BaseRequest

from core import dpop
from core.actions import Principal
from core.addresses import Asked
from core.device_key import DeviceKey
from core.dpop import BadProof
from core.errors import Unauthenticated

if TYPE_CHECKING:
    from core.runtime import Runtime
    from core.tokens import AccessTokens
    from gateway.oauth.tokens import AppTokens


class Credentials:
    """Reads them. One instance a process."""

    def __init__(self, runtime: Runtime, tokens: AccessTokens, apps: AppTokens | None = None) -> None:
        self._runtime, self._tokens, self._apps = runtime, tokens, apps

    async def read(
        self, request: BaseRequest, asked: Asked, *, anybody: bool
    ) -> tuple[Principal | None, DeviceKey | None]:
        """Who calls, and the key that they proved to have; either may be None.

        `anybody`: the action asks for nobody, so a token is not looked at: an old one must not keep anybody from
        logging in. Raises `Unauthenticated`, also for a bound token without its proof and a proof that was used.
        """
        given = [] if anybody else request.headers.getall("Authorization", [])
        proofs = request.headers.getall("DPoP", [])
        if len(given) > 1 or len(proofs) > 1:
            raise Unauthenticated("one token and one proof, please")
        scheme, _, token = (given[0] if given else "").partition(" ")
        scheme, token = scheme.lower(), token.strip()
        if self._apps is not None and given and self._apps.is_ours(token):
            path = request.rel_url.raw_path
            return (await self._apps.admit(scheme, token, proofs, request.method, path)).principal, None
        if given and scheme not in ("bearer", "dpop"):
            raise Unauthenticated("a token of type Bearer or DPoP, please")
        principal = self._tokens.verify(token) if given else None
        with dpop.held(principal):
            return principal, await self._key(
                request, asked, principal, token, scheme, proofs, given=bool(given)
            )

    async def _key(
        self,
        request: BaseRequest,
        asked: Asked,
        principal: Principal | None,
        token: str,
        scheme: str,
        proofs: list[str],
        *,
        given: bool,
    ) -> DeviceKey | None:
        """The key that is proved, None where none has to be. Raises `BadProof`."""
        bound = principal is not None and bool(principal.jkt)
        if given and bound != (scheme == "dpop"):
            raise BadProof(
                "a token goes with the scheme of its type: DPoP if it is bound to a key, else Bearer"
            )
        if not proofs:
            if bound:
                raise BadProof("this token is bound to a key: send a proof (DPoP)")
            return None
        if principal is not None and not bound:
            raise BadProof("a proof goes with a token that is bound to its key")
        window = dpop.Window.of(self._runtime.settings)
        proof = dpop.check(
            proofs[0],
            method=request.method,
            url=f"{asked.scheme}://{asked.host}{request.rel_url.raw_path}",
            now_s=self._runtime.clock.now_ms() / 1000,
            token=token if principal is not None else None,
            jkt=principal.jkt if principal is not None else None,
            window=window,
        )
        await dpop.spend(self._runtime.limits, proofs[0], window)
        return proof.key
