"""What the HTTP side asks of the flows. All of it is internal: from outside these actions do not exist."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, StringConstraints

from core.actions import Command, Id, Secret, Value

Short = Annotated[str, StringConstraints(max_length=128)]
SENT: Final = "验证码已发送，两分钟内有效"  # what the page says of a short message
Parameters = Annotated[dict[str, str], Field(max_length=40)]


class Proof(Value):
    """How a client says who it is: `method` is what it used, not what it was registered with."""

    method: Literal["none", "private_key_jwt", "client_secret_basic"]
    client_id: Short
    secret: Secret | None = None  # the word, or the assertion


class Reply(Value):
    """An answer for a client: the status and the JSON of it."""

    status: int
    body: dict[str, Any] | None


class Offered(Value):
    """An enterprise one may choose."""

    enterprise_id: Id
    name: str


class Shown(Value):
    """A page for a person, or where the browser goes next."""

    kind: Literal["error", "login", "factor", "select", "consent", "redirect", "leave", "left"]
    message: str = ""
    app: str = ""
    redirect: str | None = None
    sealed: str = ""  # what the page gives back
    person: str = ""
    enterprise: Offered | None = None
    offered: tuple[Offered, ...] = ()
    scopes: tuple[str, ...] = ()
    login_hint: str = ""
    way: str = ""  # the second factor that is asked for
    ways: tuple[str, ...] = ()  # all that would do
    cookie: str | None = None  # to be set; "": to be cleared


class Push(Command[Reply], action="gateway.oauth.push"):
    """A client hands in its request before it sends anybody (RFC 9126)."""

    proof: Proof
    parameters: Parameters
    jkt: str | None = None


class Open(Command[Shown], action="gateway.oauth.open"):
    """A browser comes with an authorization request."""

    parameters: Parameters
    cookie: Short | None


class Proceed(Command[Shown], action="gateway.oauth.proceed"):
    """A person has answered a page. `login`: `session_id` has just begun, by `amr` (RFC 8176); `half`: the password was
    right and `ticket` waits for a second factor; `way`: another one of these; `again`: what was typed was refused."""

    sealed: str
    cookie: Short
    step: Literal["login", "half", "way", "restart", "other", "select", "allow", "deny", "again"]
    enterprise_id: Id = 0
    session_id: Id = 0
    acr: int = 0
    amr: str = ""
    ticket: Secret = SecretStr("")
    ticket_until_ms: int = 0
    way: str = ""
    ways: tuple[str, ...] = ()


class Leave(Command[Shown], action="gateway.oauth.leave"):
    """A browser wants to log out (RP-initiated); `agreed`: the person has said so on our page."""

    parameters: Parameters
    cookie: Short | None
    agreed: bool = False


class Exchange(Command[Reply], action="gateway.oauth.exchange"):
    """A client asks for tokens. `jkt`: the key whose possession it has just proved."""

    proof: Proof
    parameters: Parameters
    jkt: str | None = None


class Revoke(Command[Reply], action="gateway.oauth.revoke"):
    """A client gives a token back (RFC 7009)."""

    proof: Proof
    token: Secret


class Introspect(Command[Reply], action="gateway.oauth.introspect"):
    """A resource server asks what a token is worth (RFC 7662)."""

    proof: Proof
    token: Secret


class UserInfo(Command[Reply], action="gateway.oauth.userinfo"):
    """An app asks who the person is."""

    token: Secret


class BeginBridge(Command[Reply], action="gateway.oauth.begin_bridge"):
    """The server of a micro app asks for a bridge token for one of its pages."""

    proof: Proof
    token: Secret  # the access token it has for the person
    parameters: Parameters
