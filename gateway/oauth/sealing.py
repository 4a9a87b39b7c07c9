"""What a page gives back: the request and what has been decided about it, signed, and bound to one browser.

Nothing of an unfinished interaction is stored. Whoever has no cookie of ours cannot make a browser that has one answer
a page: the seal names the cookie, so it is the token against cross-site request forgery too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from gateway.oauth.rules import Request, digest, request_of

_TYPE: Final = "oauth-page+jwt"


@dataclass(frozen=True, slots=True)
class Interaction:
    """One authorization request on its way. `fresh`: the session that began within it; 0: none."""

    key: str  # unique: an interaction gives one code
    request: Request
    fresh: int = 0
    chosen: int = 0
    shown: tuple[str, ...] = ()  # the scopes that the person has been shown, for the chosen enterprise
    ticket: str = ""  # of a login that waits for its second factor: worth nothing in another browser
    ticket_until_ms: int = 0
    way: str = ""  # the factor that the page asks for
    ways: tuple[str, ...] = ()

    def with_login(self, session_id: int) -> Interaction:
        """Somebody (perhaps somebody else) has logged in: what was chosen before is open again."""
        return replace(self.without_ticket(), fresh=session_id, chosen=0, shown=())

    def without_ticket(self) -> Interaction:
        """Back to the first of the two steps of a login."""
        return replace(self, ticket="", ticket_until_ms=0, way="", ways=())


def seal(secret: bytes, interaction: Interaction, cookie: str, until_ms: int) -> str:
    """The interaction for a page in the browser with this cookie."""
    claims = {
        "key": interaction.key,
        "request": interaction.request.plain(),
        "fresh": interaction.fresh,
        "chosen": interaction.chosen,
        "shown": interaction.shown,
        "ticket": interaction.ticket,
        "ticket_until": interaction.ticket_until_ms,
        "way": interaction.way,
        "ways": interaction.ways,
        "browser": digest(cookie).hex(),
        "until": until_ms,
    }
    return jwt.encode({"alg": "HS256", "typ": _TYPE}, claims, OctKey.import_key(secret), algorithms=["HS256"])


def unseal(secret: bytes, sealed: str, cookie: str, now_ms: int) -> Interaction | None:
    """The interaction; None where it is not ours, not this browser's, or too old."""
    try:
        read = jwt.decode(sealed, OctKey.import_key(secret), algorithms=["HS256"])
        claims = read.claims
        if read.header.get("typ") != _TYPE or claims["browser"] != digest(cookie).hex():
            return None
        if now_ms >= claims["until"]:
            return None
        return Interaction(
            key=claims["key"],
            request=request_of(claims["request"]),
            fresh=int(claims["fresh"]),
            chosen=int(claims["chosen"]),
            shown=tuple(claims["shown"]),
            ticket=str(claims["ticket"]),
            ticket_until_ms=int(claims["ticket_until"]),
            way=str(claims["way"]),
            ways=tuple(claims["ways"]),
        )
    except (JoseError, KeyError, TypeError, ValueError):
        return None
