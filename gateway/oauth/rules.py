"""What the protocol promises, decided without I/O: requests, the next step of a person, codes and refresh tokens.

OAuth 2.1 (draft), RFC 9700 (security), 9126 (pushed requests), 9207 (issuer in the response), OpenID Connect Core.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from gateway.oauth.apps.rules import Client

# --- parameters -------------------------------------------------------------------------------------------------------

PARAMETERS_MAX: Final = 40  # of one request; a client that sends more is not one
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_THUMBPRINT: Final = _CHALLENGE
_VISIBLE: Final = re.compile(r"[\x20-\x7e]*")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_ID: Final = re.compile(r"[1-9][0-9]{0,18}")
_SKEW_S: Final = 60  # between our clock and a client's
PROMPTS: Final = frozenset({"none", "login", "consent", "select_account"})


class Refusal(Exception):
    """An error of RFC 6749 and its extensions: a code for the client, a description for its developer."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        self.error = error
        self.description = description
        self.status = status
        super().__init__(error)


def parameters(text: str) -> dict[str, str]:
    """Form-encoded parameters; those without a value count as left out. Raises `Refusal` if one is there twice."""
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=PARAMETERS_MAX,
        )
    except ValueError:
        raise Refusal("invalid_request", "the parameters cannot be read") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Refusal("invalid_request", "a parameter is there twice")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def client_id_of(given: str | None) -> int:
    """The app that calls itself so; 0: none."""
    return int(given) if given is not None and _ID.fullmatch(given) and int(given) < 1 << 63 else 0


# --- authorization requests -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """A checked authorization request."""

    app_id: int
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str
    state: str | None = None
    nonce: str | None = None
    prompts: tuple[str, ...] = ()
    max_age_s: int | None = None
    least_acr: int = 0
    enterprise_id: int = 0  # the one that the client hints at
    login_hint: str = ""
    jkt: str | None = None  # the DPoP key that the code is bound to
    subject: str = ""  # whom it must be about: the `sub` of its id_token_hint

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def request_of(kept: Mapping[str, Any]) -> Request:
    """The request that was kept as JSON."""
    lists = {name: tuple(kept[name]) for name in ("scopes", "prompts")}
    return Request(**{**kept, **lists})


def redirect_uri_of(client: Client, given: str | None) -> str:
    """The address to answer to: one that was registered, character by character. Raises `Refusal`, which must be shown
    to the person here: an address that is not known is nobody to tell anything."""
    if given is None or given not in client.redirect_uris:
        raise Refusal("invalid_request", "this redirect_uri is not registered for this client")
    return given


def authorization(
    client: Client, redirect_uri: str, given: Mapping[str, str], *, pushed: bool, subject: str = ""
) -> Request:
    """The request of these parameters. Raises `Refusal`, which the client may be told at its address."""
    if client.money_related and not pushed:
        raise Refusal("invalid_request", "this client must push its requests (RFC 9126)")
    for name in ("request", "request_uri"):
        if name in given:
            raise Refusal(f"{name}_not_supported", "requests are pushed, not passed as objects")
    if "registration" in given:
        raise Refusal("registration_not_supported", "clients are registered with the bank")
    kind = given.get("response_type")
    if kind is None:
        raise Refusal("invalid_request", "response_type is missing")
    if kind != "code":
        raise Refusal("unsupported_response_type", "only response_type=code")
    if given.get("response_mode", "query") != "query":
        raise Refusal("invalid_request", "only response_mode=query")
    challenge = given.get("code_challenge", "")
    if given.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge):
        raise Refusal("invalid_request", "a code_challenge of the method S256 is required (RFC 7636)")
    state, nonce = _text(given, "state", 512), _text(given, "nonce", 256)
    scopes = tuple(sorted(set(given.get("scope", "").split(" ")) & client.scopes))
    if not scopes:
        raise Refusal("invalid_scope", "none of these scopes is for this client")
    prompts = tuple(sorted(set(given.get("prompt", "").split())))
    if not PROMPTS.issuperset(prompts) or ("none" in prompts and len(prompts) > 1):
        raise Refusal("invalid_request", "prompt is none alone, or some of login, consent, select_account")
    max_age, ent, jkt = given.get("max_age"), given.get("ent"), given.get("dpop_jkt")
    if max_age is not None and not _NUMBER.fullmatch(max_age):
        raise Refusal("invalid_request", "max_age is a number of seconds")
    if ent is not None and client_id_of(ent) == 0:
        raise Refusal("invalid_request", "ent is the number of an enterprise")
    if jkt is not None and not _THUMBPRINT.fullmatch(jkt):
        raise Refusal("invalid_request", "dpop_jkt is a thumbprint (RFC 9449)")
    hint = given.get("login_hint", "")
    levels = [int(one) for one in given.get("acr_values", "").split() if one in ("1", "2")]
    return Request(
        app_id=client.app_id,
        redirect_uri=redirect_uri,
        scopes=scopes,
        challenge=challenge,
        state=state,
        nonce=nonce,
        prompts=prompts,
        max_age_s=None if max_age is None else int(max_age),
        least_acr=min(levels, default=0),
        enterprise_id=client_id_of(ent),
        login_hint=hint if len(hint) <= 64 and hint.isprintable() else "",
        subject=subject,
        jkt=jkt,
    )


def _text(given: Mapping[str, str], name: str, most: int) -> str | None:
    value = given.get(name)
    if value is not None and (len(value) > most or not _VISIBLE.fullmatch(value)):
        raise Refusal("invalid_request", f"{name} has at most {most} visible ASCII characters")
    return value


def answer_uri(redirect_uri: str, issuer: str, state: str | None, **fields: str) -> str:
    """Where the browser is sent with the answer: always with the issuer (RFC 9207) and the state that was given."""
    named = [*fields.items(), *([("state", state)] if state is not None else []), ("iss", issuer)]
    return redirect_uri + ("&" if "?" in redirect_uri else "?") + urlencode(named)


# --- the next step of a person ----------------------------------------------------------------------------------------


class Step(Enum):
    """What has to happen before a code can be given."""

    LOGIN = "login"
    SELECT = "select"
    CONSENT = "consent"
    ISSUE = "issue"


@dataclass(frozen=True, slots=True)
class Choice:
    """An enterprise of the person that has installed the app, and what the app would get there now."""

    enterprise_id: int
    name: str
    scopes: frozenset[str]
    granted: frozenset[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a person stands in one interaction. `fresh`: logged in within it; `agreed`: to what."""

    logged_in: bool
    fresh: bool = False
    authenticated_ms: int = 0
    acr: int = 0
    choices: Sequence[Choice] = ()
    chosen: int = 0
    agreed: frozenset[str] = frozenset()
    expected: bool = True  # the one that the request is about


def needs_login(request: Request, standing: Standing, now_ms: int) -> bool:
    """Whether the person must log in (again) first."""
    if not standing.logged_in:
        return True
    if not standing.expected:
        return not standing.fresh
    if standing.fresh:
        return False
    too_old = request.max_age_s is not None and now_ms - standing.authenticated_ms > request.max_age_s * 1000
    return "login" in request.prompts or too_old or standing.acr < request.least_acr


def next_step(request: Request, standing: Standing, now_ms: int) -> tuple[Step, Choice | None]:
    """The step, and the enterprise it is about. Raises `Refusal` where there is none: the client is told."""
    silent = "none" in request.prompts
    if needs_login(request, standing, now_ms):
        if silent:
            raise Refusal("login_required", "the person has to log in")
        return Step.LOGIN, None
    if not standing.expected:
        raise Refusal("login_required", "somebody else has logged in than the id_token_hint is about")
    if standing.acr < request.least_acr:
        raise Refusal("unmet_authentication_requirements", "the person could not log in that strongly")
    if not standing.choices:
        raise Refusal("access_denied", "no enterprise of this person has installed the app")
    wanted = standing.chosen or request.enterprise_id
    if wanted:
        chosen = next((one for one in standing.choices if one.enterprise_id == wanted), None)
        if chosen is None:
            raise Refusal("access_denied", "the app is not installed in this enterprise of the person")
    elif len(standing.choices) == 1 and "select_account" not in request.prompts:
        chosen = standing.choices[0]
    else:
        chosen = None
    if "select_account" in request.prompts and not standing.chosen:
        chosen = None
    if chosen is None:
        if silent:
            raise Refusal("account_selection_required", "the person has to choose an enterprise")
        return Step.SELECT, None
    if not chosen.scopes:
        raise Refusal("access_denied", "the person may use none of these scopes")
    asks = "consent" in request.prompts or not chosen.scopes <= chosen.granted
    if asks and not chosen.scopes <= standing.agreed:
        if silent:
            raise Refusal("consent_required", "the person has to agree")
        return Step.CONSENT, chosen
    return Step.ISSUE, chosen


# --- codes and refresh tokens -----------------------------------------------------------------------------------------


def digest(secret: str) -> bytes:
    """What is stored of a code, token or secret. All have 256 random bits, so a plain hash cannot be searched."""
    return sha256(secret.encode()).digest()


def same_secret(given: str, stored: bytes | None) -> bool:
    """Whether this is the secret of that digest, in a time that does not tell how nearly."""
    return hmac.compare_digest(digest(given), stored or bytes(32)) and stored is not None


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, 4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class Verdict(Enum):
    """What to do with a code or refresh token."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    KILL = "kill"  # two parties have it: nothing of its family is good any more


@dataclass(frozen=True, slots=True)
class Code:
    """A code as the database knows it."""

    app_id: int
    redirect_uri: str
    challenge: str
    expires_ms: int
    used: bool
    jkt: str | None = None


def judge_code(
    code: Code, app_id: int, redirect_uri: str | None, verifier: str, jkt: str | None, now_ms: int
) -> Verdict:
    """Decide about a code that this client presents.

    A second use kills the family, by whomever: either of the two is a thief (RFC 6749, 4.1.2). A client that presents
    somebody else's code, or cannot prove that it asked for it, gets nothing, and the code remains its owner's.
    """
    if code.app_id != app_id:
        return Verdict.REFUSE
    if code.used:
        return Verdict.KILL
    proves = bool(_VERIFIER.fullmatch(verifier)) and hmac.compare_digest(
        challenge_of(verifier), code.challenge
    )
    bound = code.jkt is None or code.jkt == jkt
    if now_ms >= code.expires_ms or redirect_uri != code.redirect_uri or not proves or not bound:
        return Verdict.REFUSE
    return Verdict.ACCEPT


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh token and its family as the database knows them."""

    app_id: int
    expires_ms: int
    rotated: bool
    family_expires_ms: int
    family_ended: bool
    jkt: str | None = None


def judge_refresh(
    token: Refresh, app_id: int, jkt: str | None, now_ms: int, *, proved: bool = False
) -> Verdict:
    """Decide about a refresh token that this client presents: each is good once (RFC 9700, 4.14.2).

    `proved`: it is bound to a client that has proved who it is, not to a key: another DPoP key than before will do,
    none will not (RFC 9449, 5). Money-related clients have to have both.
    """
    if token.app_id != app_id or token.family_ended:
        return Verdict.REFUSE
    if token.rotated:
        return Verdict.KILL
    bound = (token.jkt is None) == (jkt is None) if proved else token.jkt == jkt
    if now_ms >= min(token.expires_ms, token.family_expires_ms) or not bound:
        return Verdict.REFUSE
    return Verdict.ACCEPT


def fewer_scopes(asked: str | None, had: frozenset[str]) -> frozenset[str]:
    """The scopes of a new access token: those of before, or fewer. Raises `Refusal`."""
    if asked is None:
        return had
    wanted = frozenset(asked.split())
    if not wanted or not wanted <= had:
        raise Refusal("invalid_scope", "more than was granted")
    return wanted


# --- proofs of clients ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assertion:
    """The claims of a client's JWT (RFC 7523) that are looked at."""

    claims: Mapping[str, Any] = field(default_factory=dict)

    def check(
        self, client_id: str, audiences: frozenset[str], now_s: float, most_s: float
    ) -> tuple[str, float]:
        """The `jti`, which must not have been seen, and until when it is to be remembered. Raises `Refusal`."""
        claims = self.claims
        audience, expires, jti = claims.get("aud"), claims.get("exp"), claims.get("jti")
        named = audience if isinstance(audience, list) else [audience]
        for_us = any(isinstance(one, str) and one in audiences for one in named)
        if claims.get("iss") != client_id or claims.get("sub") != client_id or not for_us:
            raise Refusal("invalid_client", "the assertion is not of this client for us", 401)
        if not isinstance(expires, int | float) or not now_s < expires <= now_s + most_s + _SKEW_S:
            raise Refusal("invalid_client", f"an assertion ends within {int(most_s)} seconds", 401)
        started = claims.get("nbf", claims.get("iat", now_s))
        if not isinstance(started, int | float) or started > now_s + _SKEW_S:
            raise Refusal("invalid_client", "the assertion begins later", 401)
        if not isinstance(jti, str) or not 8 <= len(jti) <= 128:
            raise Refusal("invalid_client", "an assertion has a jti", 401)
        return jti, expires
