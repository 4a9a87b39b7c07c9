"""The tokens that apps get: access tokens (RFC 9068), ID tokens, bridge tokens; and the principals they stand for.

An app must not learn who somebody is elsewhere, so `sub` is a name for this app's sector alone; what we need to know
ourselves (person, session, grant, …) is in the claim `own`, encrypted and bound to the token. Nothing is looked up.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core import dpop
from core.access import Principal
from core.codec import pack, unpack
from core.errors import BankhubError, Forbidden, Unauthenticated
from core.runtime import Runtime
from core.tokens import TOKEN_BYTES, AccessTokens
from gateway.oauth.apps.rules import IDENTITY_SCOPES

ACCESS: Final = "at+jwt"
IDENTITY: Final = "JWT"
BRIDGE: Final = "bridge+jwt"
LOGOUT: Final = "logout+jwt"
_LOGOUT_S: Final = 120
_REMEMBERED: Final = 20_000  # verified tokens whose signature need not be checked again
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Rests:
    """What a token rests on. When one of these ends, so does the token. 0: not there (an app for itself)."""

    app_id: int
    enterprise_id: int
    person_id: int
    session_id: int
    grant_id: int
    family_id: int
    issued_ms: int


@dataclass(frozen=True, slots=True)
class AppToken:
    """An access token, read. `jkt`: the key it is bound to (RFC 9449), None: a bearer token."""

    rests: Rests
    scopes: frozenset[str]
    acr: int
    expires_ms: int
    jkt: str | None
    claims: dict[str, Any]

    @property
    def principal(self) -> Principal:
        """Who calls with it: the person, held back to the scopes; without a person the app itself."""
        return Principal(
            person_id=self.rests.person_id,
            enterprise_id=self.rests.enterprise_id,
            roles=frozenset(),
            session_id=self.rests.session_id,
            device=f"app-{self.rests.app_id}",
            expires_at_ms=self.expires_ms,
            acr=self.acr,
            scopes=self.scopes - IDENTITY_SCOPES.keys(),
            client_id=str(self.rests.app_id),
        )


@dataclass(frozen=True, slots=True)
class Bridge:
    """What a micro app's page may ask its host for."""

    rests: Rests
    origin: str
    apis: frozenset[str]


class AppTokens:
    """Signs and verifies. `issuer` is asked at each use: on a laptop it is known once we listen."""

    def __init__(
        self, runtime: Runtime, keys: AccessTokens, secret: bytes, issuer: Callable[[], str]
    ) -> None:
        self._clock, self._rng, self._limits = runtime.clock, runtime.rng, runtime.limits
        self._keys = keys
        self._cipher = AESGCM(secret)
        self._issuer = issuer
        self._window = dpop.Window.of(runtime.settings)
        self._life_ms = int(runtime.settings.access_token_s * 1000)
        self._bridge_ms = int(runtime.settings.oauth_bridge_s * 1000)
        self._seen: OrderedDict[bytes, AppToken] = OrderedDict()
        self.origins: Mapping[str, frozenset[int]] = {}  # where pages of apps live, and of which apps

    @property
    def audience(self) -> str:
        """What access tokens are for: our actions."""
        return self._issuer() + "/v1"

    # --- access tokens --------------------------------------------------------------------------------------------

    def sign_access(
        self, rests: Rests, scopes: Collection[str], until_ms: int, claims: dict[str, Any], jkt: str | None
    ) -> tuple[str, int]:
        """A token from now until `until_ms`, ten minutes at most; and its life in seconds."""
        now_s = rests.issued_ms // 1000
        expires_s = min(rests.issued_ms + self._life_ms, until_ms) // 1000
        jti = self._rng.token()[:22]
        body = claims | {
            "iss": self._issuer(),
            "aud": self.audience,
            "client_id": str(rests.app_id),
            "scope": " ".join(sorted(scopes)),
            "ent": str(rests.enterprise_id),
            "jti": jti,
            "iat": now_s,
            "exp": expires_s,
            "own": self._seal(rests, jti),
        }
        if jkt is not None:
            body["cnf"] = {"jkt": jkt}
        return self._keys.sign_claims(ACCESS, body), expires_s - now_s

    def is_ours(self, token: str) -> bool:
        """Whether this looks like a token of an app, not of our own clients. Says nothing about its being good."""
        payload = token.split(".")[1:2]
        try:
            return bool(payload) and b'"own":' in urlsafe_b64decode(payload[0] + "==")
        except ValueError:
            return False

    def verify(self, token: str) -> AppToken:
        """An access token that is good now. Raises `Unauthenticated`, always the same whatever is wrong."""
        if len(token) > TOKEN_BYTES:
            raise Unauthenticated("the access token is not valid")
        mark = sha256(token.encode(errors="replace")).digest()
        known = self._seen.get(mark)
        if known is None:
            known = self._seen[mark] = self._read(token)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        if known.expires_ms <= self._clock.now_ms():
            self._seen.pop(mark, None)
            raise Unauthenticated("the access token has expired")
        self._still(known.rests, known.principal)
        return known

    async def admit(self, scheme: str, token: str, proofs: Sequence[str], method: str, path: str) -> AppToken:
        """The token of this request, with the proof of its key where it is bound to one (RFC 9449).

        Raises `Unauthenticated`. A bound token is worth nothing as a bearer token.
        """
        read = self.verify(token)
        if scheme.lower() != ("bearer" if read.jkt is None else "dpop"):
            raise Unauthenticated("this token is not of that scheme")
        if read.jkt is not None:
            await self.proved(proofs, method, path, token=token, jkt=read.jkt)
        return read

    def check_page(self, origin: str, principal: Principal | None) -> None:
        """A micro app's page calls with its own app's tokens and nothing else. Raises `Forbidden`."""
        apps = self.origins.get(origin, frozenset())
        if principal is None or not principal.client_id or int(principal.client_id) not in apps:
            raise Forbidden("a page of an app calls with a token of that app")

    async def proved(
        self,
        proofs: Sequence[str],
        method: str,
        path: str,
        *,
        token: str | None = None,
        jkt: str | None = None,
    ) -> str:
        """The thumbprint of the key that these DPoP headers prove, once. Raises `BadProof`."""
        if len(proofs) != 1:
            raise dpop.BadProof("one proof, please")
        proof = dpop.check(
            proofs[0],
            method=method,
            url=self._issuer() + path,
            now_s=self._clock.now_ms() / 1000,
            token=token,
            jkt=jkt,
            window=self._window,
        )
        await dpop.spend(self._limits, proofs[0], self._window)
        return proof.jkt

    def _read(self, token: str) -> AppToken:
        claims = self._claims(ACCESS, token, self.audience)
        try:
            rests = self._open(claims["own"], claims["jti"])
            bound = claims.get("cnf")
            return AppToken(
                rests=rests,
                scopes=frozenset(claims["scope"].split()),
                acr=int(claims.get("acr", 1)),
                expires_ms=int(claims["exp"]) * 1000,
                jkt=None if bound is None else str(bound["jkt"]),
                claims={name: value for name, value in claims.items() if name != "own"},
            )
        except (BankhubError, InvalidTag, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated("the access token is not valid") from error

    def _still(self, rests: Rests, principal: Principal) -> None:
        revocations = self._keys.revocations
        revocations.check(principal, rests.issued_ms)
        revocations.refuse(
            rests.issued_ms,
            ("app", rests.app_id, 0),
            ("installation", rests.app_id, rests.enterprise_id),
            ("grant", rests.grant_id, 0),
            ("family", rests.family_id, 0),
        )

    # --- ID tokens ------------------------------------------------------------------------------------------------

    def sign_identity(self, client_id: str, claims: dict[str, Any], access_token: str) -> str:
        """An ID token (OpenID Connect Core, 2), with the hash of the access token it comes with."""
        now_s = self._clock.now_ms() // 1000
        half = sha256(access_token.encode()).digest()[:16]
        body = claims | {
            "iss": self._issuer(),
            "aud": client_id,
            "iat": now_s,
            "exp": now_s + self._life_ms // 1000,
            "at_hash": urlsafe_b64encode(half).rstrip(b"=").decode(),
        }
        return self._keys.sign_claims(IDENTITY, body)

    def sign_logout(self, client_id: str, sub: str, sid: str) -> str:
        """A logout token (OpenID Connect Back-Channel Logout 1.0, 2.4), good for two minutes."""
        now_s = self._clock.now_ms() // 1000
        body = {
            "iss": self._issuer(),
            "aud": client_id,
            "sub": sub,
            "sid": sid,
            "iat": now_s,
            "exp": now_s + _LOGOUT_S,
            "jti": self._rng.token()[:22],
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        }
        return self._keys.sign_claims(LOGOUT, body)

    def read_hint(self, token: str) -> dict[str, Any]:
        """The claims of an ID token that we once signed, expired or not. Raises `Unauthenticated`."""
        claims = self._keys.read_claims(IDENTITY, token)
        if claims.get("iss") != self._issuer() or not isinstance(claims.get("aud"), str):
            raise Unauthenticated("this is no ID token of ours")
        return claims

    # --- the bridge -----------------------------------------------------------------------------------------------

    def sign_bridge(
        self, rests: Rests, origin: str, apis: Collection[str], nonce: str, until_ms: int
    ) -> tuple[str, int]:
        """A token for the page of a micro app; and its life in seconds."""
        now_ms = self._clock.now_ms()
        expires_s = min(now_ms + self._bridge_ms, until_ms) // 1000
        jti = self._rng.token()[:22]
        body = {
            "iss": self._issuer(),
            "aud": self._issuer() + "/bridge",
            "client_id": str(rests.app_id),
            "ent": str(rests.enterprise_id),
            "origin": origin,
            "apis": sorted(apis),
            "nonce": nonce,
            "jti": jti,
            "iat": now_ms // 1000,
            "exp": expires_s,
            "own": self._seal(rests, jti),
        }
        return self._keys.sign_claims(BRIDGE, body), expires_s - now_ms // 1000

    def read_bridge(self, token: str) -> Bridge:
        """A bridge token that is good now. Raises `Unauthenticated`."""
        claims = self._claims(BRIDGE, token, self._issuer() + "/bridge")
        try:
            rests = self._open(claims["own"], claims["jti"])
            bridge = Bridge(rests, str(claims["origin"]), frozenset(claims["apis"]))
            expires_ms = int(claims["exp"]) * 1000
        except (BankhubError, InvalidTag, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated("the bridge token is not valid") from error
        if expires_ms <= self._clock.now_ms():
            raise Unauthenticated("the bridge token has expired")
        who = Principal(rests.person_id, rests.enterprise_id, frozenset(), rests.session_id, "", expires_ms)
        self._still(rests, who)
        return bridge

    # --- inside ---------------------------------------------------------------------------------------------------

    def _claims(self, typ: str, token: str, audience: str) -> dict[str, Any]:
        claims = self._keys.read_claims(typ, token)
        if claims.get("iss") != self._issuer() or claims.get("aud") != audience:
            raise Unauthenticated("the token is not valid")
        return claims

    def _seal(self, rests: Rests, jti: str) -> str:
        nonce = self._rng.randbytes(_NONCE_BYTES)
        plain = pack(
            [
                rests.app_id,
                rests.enterprise_id,
                rests.person_id,
                rests.session_id,
                rests.grant_id,
                rests.family_id,
                rests.issued_ms,
            ]
        )
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, plain, jti.encode())).decode()

    def _open(self, sealed: str, jti: str) -> Rests:
        raw = urlsafe_b64decode(sealed)
        plain = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], jti.encode())
        return Rests(*(int(one) for one in unpack(plain)))
