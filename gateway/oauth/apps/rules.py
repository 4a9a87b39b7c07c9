"""What is promised about apps, decided without I/O: addresses, keys, scopes, and who a person is to an app."""

from __future__ import annotations

import hmac
import re
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from core.access import Grants, Level, Permission
from core.errors import Invalid

OPENID: Final = "openid"
PROFILE: Final = "profile"
IDENTITY_SCOPES: Final[Mapping[str, str]] = {OPENID: "确认你的身份", PROFILE: "查看你的姓名和所在企业"}
"""Scopes that are about the person alone, with what the consent page says of them. All others are permissions."""
UNTIL_RISK: Final = 2
"""From this risk on an installation needs an end: nobody remembers for years what was allowed once."""
_KEYS_MAX: Final = 5
_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Client:
    """An app as the protocol knows it."""

    app_id: int
    enterprise_id: int  # who registered it
    title: str
    auth_method: str
    redirect_uris: tuple[str, ...]
    logout_uris: tuple[str, ...]
    sector: str
    scopes: frozenset[str]
    published: bool
    machine: bool
    money_related: bool
    resource_server: bool
    active: bool
    backchannel_uri: str | None = None  # is told when a session of its people has ended

    @property
    def client_id(self) -> str:
        return str(self.app_id)

    @property
    def origins(self) -> frozenset[str]:
        """The origins its pages have: those of its redirect URIs."""
        return frozenset(origin_of(uri) for uri in self.redirect_uris)

    def is_for(self, enterprise_id: int) -> bool:
        """Whether this enterprise may install it."""
        return self.published or self.enterprise_id == enterprise_id


# --- addresses --------------------------------------------------------------------------------------------------------

_PATH: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*"
_WEB: Final = re.compile(rf"https://([a-z0-9.-]{{1,253}})(:[1-9][0-9]{{0,4}})?(/{_PATH})?(\?{_PATH})?")
_LOOPBACK: Final = re.compile(
    rf"http://(127\.0\.0\.1|\[::1\]|localhost)(:[1-9][0-9]{{0,4}})?(/{_PATH})?(\?{_PATH})?"
)
_HOST: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")


def checked_uri(uri: str) -> str:
    """An address that people may be sent to. Raises `Invalid`.

    https and a host name in lower case, or plain http on the own machine (RFC 8252) for development and native apps; no
    user, no fragment, no step upwards, nothing that two parsers might read differently.
    """
    web = _WEB.fullmatch(uri)
    if not web and not _LOOPBACK.fullmatch(uri):
        raise Invalid("an address is https://host/path in plain characters, without user and fragment")
    parts, port = urlsplit(uri), _port(uri)
    if web and not _HOST.fullmatch(web[1]):
        raise Invalid("this is no host name")
    if not 0 < port < 65536:
        raise Invalid("this is no port")
    if any(step in (".", "..") for step in _dotted(parts.path).split("/")):
        raise Invalid("an address has no steps upwards")
    return uri


def _port(uri: str) -> int:
    name, _, port = urlsplit(uri).netloc.rpartition(":")
    return int(port) if name and port.isdigit() else 443


def _dotted(path: str) -> str:
    return path.replace("%2E", ".").replace("%2F", "/").replace("%5C", "/")


def origin_of(uri: str) -> str:
    """Scheme, host and port of a checked address."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"


def sector_of(enterprise_id: int, app_id: int, redirect_uris: Sequence[str]) -> str:
    """Apps of one owner on one host know a person under the same name; all others under different ones."""
    hosts = {urlsplit(uri).hostname for uri in redirect_uris}
    return f"{enterprise_id}:{hosts.pop()}" if len(hosts) == 1 else f"app:{app_id}"


# --- registration -----------------------------------------------------------------------------------------------------


def check_title(title: str) -> None:
    """Raises `Invalid` for a title that shows other than what it is: controls, reversed or invisible characters."""
    if any(unicodedata.category(one) in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp") for one in title):
        raise Invalid("a title has visible characters only")


def check_registration(
    *,
    auth_method: str,
    redirect_uris: Sequence[str],
    logout_uris: Sequence[str],
    machine: bool,
    money_related: bool,
    jwks: Mapping[str, Any] | None,
) -> None:
    """Whether these go together. Raises `Invalid`."""
    for uri in (*redirect_uris, *logout_uris):
        checked_uri(uri)
    if len(set(redirect_uris)) < len(redirect_uris):
        raise Invalid("an address is there twice")
    if not redirect_uris and not machine:
        raise Invalid("an app that acts for people needs an address to come back to")
    if machine and auth_method == "none":
        raise Invalid("an app that acts for itself must prove who it is")
    if money_related and auth_method == "client_secret_basic":
        raise Invalid("a money-related app proves itself by a key, not by a word")
    if (auth_method == "private_key_jwt") != (jwks is not None):
        raise Invalid("public keys belong to private_key_jwt")
    if jwks is not None:
        client_keys(jwks)


def client_keys(jwks: Mapping[str, Any]) -> KeySet:
    """The public keys of a client: P-256 or RSA of 2048 bits and more, five at most. Raises `Invalid`."""
    keys = jwks.get("keys")
    if set(jwks) != {"keys"} or not isinstance(keys, list) or not 1 <= len(keys) <= _KEYS_MAX:
        raise Invalid(f"a key set has one to {_KEYS_MAX} keys")
    try:
        imported = KeySet.import_key_set({"keys": [dict(key) for key in keys]})
    except (JoseError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise Invalid("this is not a key set") from error
    for key in imported.keys:
        if key.is_private:
            raise Invalid("only the public half of a key is given away")
        if isinstance(key, ECKey) and key.curve_name == "P-256":
            continue
        if isinstance(key, RSAKey) and key.public_key.key_size >= _RSA_BITS:
            continue
        raise Invalid("keys are P-256, or RSA of 2048 bits and more")
    return imported


def told_of(client: Client, jwks: Mapping[str, Any] | None) -> list[Any]:
    """Where an app is and how it proves itself, in one value."""
    return [client.redirect_uris, client.logout_uris, client.backchannel_uri, jwks]


def takes_away(
    client: Client, jwks: Mapping[str, Any] | None, changed: Client, keys: Mapping[str, Any] | None
) -> bool:
    """Whether somebody who had an address or a key of the app has none any more: what was given there must end."""
    return not set(client.redirect_uris) <= set(changed.redirect_uris) or not _thumbprints(
        jwks
    ) <= _thumbprints(keys)


def _thumbprints(jwks: Mapping[str, Any] | None) -> set[str]:
    return set() if jwks is None else {key.thumbprint() for key in client_keys(jwks).keys}


# --- scopes -----------------------------------------------------------------------------------------------------------


def scope_table(permissions: Iterable[Permission]) -> dict[str, Permission]:
    """The permissions that apps may ask for, by name."""
    return {one.name: one for one in permissions if one.scope}


def check_scopes(asked: Collection[str], allowed: Collection[str]) -> frozenset[str]:
    """Raises `Invalid` for a scope that is not allowed here."""
    beyond = sorted(set(asked) - set(allowed))
    if beyond:
        raise Invalid("unknown or not allowed scopes", detail={"scopes": beyond[:20]})
    return frozenset(asked)


def needs_end(scopes: Iterable[str], table: Mapping[str, Permission]) -> bool:
    """Whether an installation with these scopes must have an end."""
    return any(table[scope].risk >= UNTIL_RISK for scope in scopes if scope in table)


def held_scopes(grants: Grants, table: Mapping[str, Permission]) -> frozenset[str]:
    """The scopes a person could give away at the moment: what the person's own roles allow."""
    if grants.level is None or grants.level < Level.MEMBER:
        return frozenset()
    return frozenset(
        name
        for name, permission in table.items()
        if grants.of(permission) is not None
        and (grants.level >= Level.CONTRACTED or not permission.contracted)
    )


def effective(
    asked: Collection[str], client: Client, installed: Collection[str], held: Collection[str]
) -> frozenset[str]:
    """asked ∩ approved for the app ∩ installed in the enterprise ∩ what the person may do now."""
    about_the_person = set(asked) & client.scopes & set(IDENTITY_SCOPES)
    return frozenset(about_the_person | set(asked) & client.scopes & set(installed) & set(held))


# --- who a person is to an app ----------------------------------------------------------------------------------------


def subject(secret: bytes, sector: str, person_id: int, enterprise_id: int = 0) -> str:
    """The name of a person, or (with an enterprise) of a member, that only apps of this sector know.

    Nobody without the secret can tell that two of them are the same person (OpenID Connect Core, 8.1).
    """
    text = f"{sector}\0{person_id}\0{enterprise_id}"
    return urlsafe_b64encode(hmac.digest(secret, text.encode(), sha256)).rstrip(b"=").decode()


# --- the bridge of micro apps -----------------------------------------------------------------------------------------

BRIDGE_APIS: Final[Mapping[str, tuple[str | None, str]]] = {
    # api: (the scope it needs, how the host asks the person)
    "getContext": (OPENID, "silent"),
    "login": (OPENID, "silent"),
    "setTitle": (None, "silent"),
    "close": (None, "silent"),
    "getNetwork": (None, "silent"),
    "onThemeChange": (None, "silent"),
    "storage": (None, "silent"),
    "preview": (None, "silent"),
    "choosePerson": ("contacts:read", "ask_once"),
    "chooseDept": ("contacts:read", "ask_once"),
    "share": (None, "ask_always"),
    "scanQR": (None, "ask_always"),
    "chooseImage": (None, "ask_always"),
    "chooseFile": (None, "ask_always"),
    "getLocation": (None, "ask_always"),
    "openApproval": (None, "ask_always"),
    "createPayRequest": (None, "ask_always"),  # opens the host's own page; the app moves nothing
}


def bridge_apis(asked: Sequence[str], scopes: Collection[str]) -> frozenset[str]:
    """Those a page may call with these scopes. Raises `Invalid` for one that does not exist or lacks its scope."""
    for api in asked:
        scope, _ = BRIDGE_APIS.get(api, ("", ""))
        if scope is not None and scope not in scopes:
            raise Invalid("no such API, or no scope for it", detail={"api": api[:32]})
    return frozenset(asked)
