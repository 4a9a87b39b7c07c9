"""Tokens: access tokens of people, and service tokens between our own processes.

An access token is a JWT signed with ES256 (`typ` at+jwt, RFC 9068): whoever verifies it cannot make one, and JWKS can
publish the key. It lives ten minutes at most; what ends earlier than that is in `Revocations`. A service token is a
JWT signed with the cluster's secret for one call: one audience, one action, one body, a minute at most.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey

from core.access import ROLES, SERVICE_ROLE, Principal
from core.clock import Clock
from core.crypto.keyring import Keyring, open_keyring
from core.crypto.ring import TOKENS, Key
from core.errors import Invalid, Unauthenticated
from core.keys import cluster_secret, derive
from core.settings import Settings

ISSUER: Final = "bankhub"
AUDIENCE: Final = "bankhub"
TOKEN_BYTES: Final = 4096  # longer ones are not looked at
_REMEMBERED: Final = 20_000  # verified tokens whose signature need not be checked again
_ROLE_SETS: Final[dict[frozenset[str], frozenset[str]]] = {}  # one set for everybody with the same roles


class Ended(Unauthenticated):
    """The session has ended."""

    def __init__(self, message: str, holder: Principal, outcome: str) -> None:
        super().__init__(message)
        self.holder, self.outcome = (
            holder,
            outcome,
        )  # for the record: whose token, and what became of its session


class Revocations:
    """Sessions and memberships that ended before their access tokens did. Fed by the bus, kept for a token's life."""

    def __init__(self, clock: Clock, keep_s: float) -> None:
        self._clock = clock
        self._keep_ms = int(keep_s * 1000)
        self._ended: OrderedDict[tuple[str, int, int], int] = OrderedDict()

    def end_session(self, session_id: int) -> None:
        """No token of this session is good from now on."""
        self._add(("session", session_id, 0))

    def end_membership(self, person_id: int, enterprise_id: int) -> None:
        """No token that was signed before now, of this person in this enterprise, is good any more."""
        self._add(("membership", person_id, enterprise_id))

    def end(self, kind: str, subject_id: int, enterprise_id: int = 0, *, at_ms: int | None = None) -> None:
        """Nothing that was signed before now for this thing (a grant, an app's installation) is good any more.

        `at_ms`: it ended then already, and what was signed since is good.
        """
        thing = (kind, subject_id, enterprise_id)
        self._add(thing, None if at_ms is None else max(at_ms, self._ended.get(thing, 0)))

    def refuse(self, issued_at_ms: int, *things: tuple[str, int, int]) -> None:
        """Raises `Unauthenticated` if one of these (kind, subject, enterprise) ended since."""
        if self._ended and any(issued_at_ms <= self._ended.get(thing, -1) for thing in things):
            raise Unauthenticated("what this token rests on has ended")

    def renew_session(self, session_id: int, since_ms: int) -> None:
        """No token of this session that was signed before `since_ms` is good any more."""
        self._add(("renewed", session_id, 0), since_ms - 1)

    def check(self, principal: Principal, issued_at_ms: int) -> None:
        """Raises `Ended` if session or membership ended, or the session was renewed, after it was made."""
        if not self._ended:
            return
        session = self._ended.get(("session", principal.session_id, 0))
        member = self._ended.get(("membership", principal.person_id, principal.enterprise_id))
        renewed = self._ended.get(("renewed", principal.session_id, 0))
        if session is not None:
            raise Ended("the session has ended", principal, "revoked")
        if member is not None and issued_at_ms <= member:
            raise Ended("the session has ended", principal, "left")
        if renewed is not None and issued_at_ms <= renewed:
            raise Ended("there is a newer token of this session", principal, "renewed")

    def _add(self, key: tuple[str, int, int], at_ms: int | None = None) -> None:
        now_ms = self._clock.now_ms()
        self._ended[key] = now_ms if at_ms is None else at_ms
        self._ended.move_to_end(key)
        while self._ended and next(iter(self._ended.values())) < now_ms - self._keep_ms:
            self._ended.popitem(last=False)


class AccessTokens:
    """Signs (the gateway) and verifies (every edge) access tokens. Verifying touches no database."""

    def __init__(
        self, settings: Settings, clock: Clock, *, private: bool = True, keys: Keyring | None = None
    ) -> None:
        self._clock = clock
        self._life_s = settings.access_token_s
        self._private = private
        self._ring = keys or open_keyring(settings, clock)
        self._imported: dict[str, ECKey] = {}
        self._seen: OrderedDict[bytes, tuple[Principal, int]] = OrderedDict()
        self.revocations = Revocations(clock, settings.access_token_s + 60)

    def sign(self, principal: Principal) -> tuple[str, int]:
        """A token for `principal` from now on, and when it expires (ms since the epoch).

        The expiry is never later than `principal.expires_at_ms`, the end of the session.
        """
        assert principal.scopes is None, "apps of others have tokens for another audience (gateway.oauth)"
        now_ms = self._clock.now_ms()
        expires_s = min(now_ms + int(self._life_s * 1000), principal.expires_at_ms) // 1000
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(principal.person_id),
            "ent": str(principal.enterprise_id),
            "roles": sorted(principal.roles),
            "sid": str(principal.session_id),
            "did": principal.device,
            "acr": str(principal.acr),
            "iat": now_ms / 1000,
            "exp": expires_s,
        }
        if principal.jkt:
            claims["cnf"] = {"jkt": principal.jkt}
        return self.sign_claims("at+jwt", claims), expires_s * 1000

    def sign_claims(self, typ: str, claims: dict[str, Any]) -> str:
        """A JWT of these claims under the current key. `typ` keeps tokens of one purpose from passing for another."""
        assert self._private, "this process verifies only"
        signing = self._ring.current(TOKENS)
        header = {"alg": "ES256", "typ": typ, "kid": signing.key_id}
        return jwt.encode(header, claims, self._key(signing), algorithms=["ES256"])

    def read_claims(self, typ: str, token: str) -> dict[str, Any]:
        """The claims of a JWT of ours of this `typ`, however old it is. Raises `Unauthenticated`."""
        try:
            if len(token) > TOKEN_BYTES:
                raise ValueError("too long")
            read = jwt.decode(token, self._verifying(str(_header(token)["kid"])), algorithms=["ES256"])
            if read.header.get("typ") != typ:
                raise ValueError("a token of another purpose")
            return dict(read.claims)
        except (JoseError, Invalid, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated("the token is not valid") from error

    def verify(self, token: str) -> Principal:
        """Who the token says calls. Raises `Unauthenticated`, always the same whatever is wrong."""
        if len(token) > TOKEN_BYTES:
            raise Unauthenticated("the access token is not valid")
        digest = sha256(token.encode(errors="replace")).digest()
        known = self._seen.get(digest)
        if known is None:
            known = self._read(token)
            self._seen[digest] = known
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        principal, issued_at_ms = known
        if principal.expires_at_ms <= self._clock.now_ms():
            self._seen.pop(digest, None)
            raise Unauthenticated("the access token has expired")
        self.revocations.check(principal, issued_at_ms)
        return principal

    async def authenticate(self, token: str) -> Principal:
        """What the hub is given: `verify`, asynchronous so that another implementation may ask somebody."""
        return self.verify(token)

    def jwks(self) -> dict[str, Any]:
        """The public keys, as RFC 7517 writes them: the next one too, so that clients know it before it signs."""
        keys = [(self._key(one), one.key_id) for one in self._ring.all(TOKENS)]
        return {
            "keys": [dict(key.as_dict(private=False), use="sig", alg="ES256", kid=kid) for key, kid in keys]
        }

    def _key(self, key: Key) -> ECKey:
        imported = self._imported.get(key.key_id)
        if imported is None:
            imported = self._imported[key.key_id] = ECKey.import_key(orjson.loads(key.material))
        return imported

    def _verifying(self, kid: str) -> ECKey:
        purpose, _, version = kid.partition(".")
        if purpose != TOKENS.name or not (version.isascii() and version.isdecimal()) or len(version) > 6:
            raise ValueError("not a key of tokens")
        return self._key(self._ring.get(TOKENS, int(version)))

    def _read(self, token: str) -> tuple[Principal, int]:
        try:
            claims = self.read_claims("at+jwt", token)
            if claims["iss"] != ISSUER or claims["aud"] != AUDIENCE:
                raise ValueError("not an access token of our own clients")
            roles = frozenset(claims["roles"])
            if not _are_roles(roles):
                raise ValueError("a role that people do not have")
            principal = Principal(
                person_id=int(claims["sub"]),
                enterprise_id=int(claims["ent"]),
                roles=_ROLE_SETS.setdefault(roles, roles),
                session_id=int(claims["sid"]),
                device=str(claims["did"]),
                expires_at_ms=int(claims["exp"]) * 1000,
                acr=int(claims.get("acr", 1)),
                jkt=str(claims.get("cnf", {}).get("jkt", "")),
            )
            return principal, round(claims["iat"] * 1000)
        except (Unauthenticated, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated("the access token is not valid") from error


def _header(token: str) -> Mapping[str, Any]:
    head = token.partition(".")[0]
    header = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    if not isinstance(header, dict):
        raise ValueError("a header is a map")
    return header


@dataclass(frozen=True, slots=True)
class ServiceCall:
    """What a service token vouches for."""

    caller: str  # name of the calling service, or the node where none is
    principal: Principal | None  # on whose behalf
    deadline_s: float  # what is left of the caller's time
    traceparent: str
    key: str | None
    source: tuple[str, str, str] = ("", "internal", "")  # address, edge, agent of the outermost caller
    internal: bool = True  # False: an edge passes on what came from outside
    step_up: int | None = None  # the challenge that was proved for this call


class ServiceTokens:
    """Signs and verifies calls between our own processes, with the secret they share."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._life_s = settings.service_token_s
        self._key = OctKey.import_key(derive(cluster_secret(settings), "service tokens"))

    def sign(self, audience: str, action: str, body: bytes, call: ServiceCall) -> str:
        """A token for exactly this call: it is worth nothing for another service, action or body."""
        now_s = self._clock.now_ms() / 1000
        claims: dict[str, Any] = {
            "iss": call.caller,
            "aud": audience,
            "act": action,
            "bdy": sha256(body).hexdigest(),
            "iat": now_s,
            "exp": now_s + self._life_s,
            "dln": call.deadline_s,
            "trc": call.traceparent,
            "src": call.source,
            "int": call.internal,
        }
        if call.key is not None:
            claims["key"] = call.key
        if call.step_up is not None:
            claims["stp"] = call.step_up
        if call.principal is not None and call.principal.jkt:
            claims["jkt"] = call.principal.jkt
        if call.principal is not None:
            who = call.principal
            claims["who"] = [
                who.person_id,
                who.enterprise_id,
                sorted(who.roles),
                who.session_id,
                who.device,
                who.expires_at_ms,
                who.acr,
                None if who.scopes is None else sorted(who.scopes),
                who.client_id,
            ]
        return jwt.encode({"alg": "HS256", "typ": "service+jwt"}, claims, self._key, algorithms=["HS256"])

    def verify(self, token: str, audience: str, action: str, body: bytes) -> ServiceCall:
        """What the token vouches for. Raises `Unauthenticated`, always the same whatever is wrong."""
        try:
            if len(token) > TOKEN_BYTES:
                raise ValueError("too long")
            read = jwt.decode(token, self._key, algorithms=["HS256"])
            claims, now_s = read.claims, self._clock.now_ms() / 1000
            if (
                read.header.get("typ") != "service+jwt"
                or claims["aud"] != audience
                or claims["act"] != action
            ):
                raise ValueError("for somebody or something else")
            if claims["bdy"] != sha256(body).hexdigest():
                raise ValueError("another body")
            # a minute at most whatever the signer says; a little is left for clocks that differ
            if (
                not now_s - 65 <= claims["iat"] <= now_s + 5
                or not now_s < claims["exp"] <= claims["iat"] + 60
            ):
                raise ValueError("too old or too new")
            return ServiceCall(
                caller=str(claims["iss"]),
                principal=_principal(claims.get("who"), str(claims.get("jkt", ""))),
                deadline_s=float(claims["dln"]),
                traceparent=str(claims["trc"]),
                key=claims.get("key"),
                source=_source(claims["src"]),
                internal=claims["int"] is True,
                step_up=claims.get("stp"),
            )
        except (JoseError, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated("the service token is not valid") from error


def _source(source: Any) -> tuple[str, str, str]:
    address, edge, agent = source
    return str(address), str(edge), str(agent)


def _principal(who: Any, jkt: str) -> Principal | None:
    if who is None:
        return None
    person_id, enterprise_id, roles, session_id, device, expires_at_ms, acr, scopes, client_id = who
    if not _are_roles(set(roles) - {SERVICE_ROLE}):
        raise Invalid("unknown role")
    asked = None if scopes is None else frozenset(scopes)
    return Principal(
        person_id,
        enterprise_id,
        frozenset(roles),
        session_id,
        device,
        expires_at_ms,
        acr,
        asked,
        client_id,
        jkt,
    )


def _are_roles(names: Iterable[str]) -> bool:
    """Built-in ones, or ids of an enterprise's own."""
    return all(name in ROLES or (name.isascii() and name.isdecimal()) for name in names)
