"""Apps that are not ours: who registers them, which enterprise installs them, what a person has granted to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from core.actions import Command, Id, Permission, Value

AppTitle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=32)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=512)]
ScopeName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Scopes = Annotated[list[ScopeName], Field(max_length=100)]
ClientAuth = Literal["none", "private_key_jwt", "client_secret_basic"]
BridgeApi = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z]{1,32}$")]

APPS_REGISTER = Permission(
    "apps:register", "登记和停用第三方应用", {"bank_operator", "bank_administrator"}, realm="bank", risk=2
)
APPS_MANAGE = Permission("apps:manage", "安装和登记本企业应用", {"administrator"}, risk=2)


class App(Value):
    """An app as those see it who may install it. `client_id` is what it calls itself in OAuth."""

    app_id: Id
    client_id: str
    title: str
    auth_method: ClientAuth
    redirect_uris: list[str]
    logout_uris: list[str]
    backchannel_uri: str | None = None
    scopes: list[str]
    machine: bool
    money_related: bool
    resource_server: bool
    published: bool
    own: bool  # registered by one's own enterprise
    suspended: bool


class RegisteredApp(Value):
    """A new app. The secret is shown this once; we keep only its digest."""

    app: App
    client_secret: str | None


class AppSecret(Value):
    """A new secret; the one before is not good any more."""

    client_secret: str


class Installation(Value):
    """An app in one's own enterprise, and what it may at most see there."""

    app: App
    scopes: list[str]
    installed_ms: int
    expires_ms: int | None


class AppGrant(Value):
    """What one has allowed an app, in one enterprise."""

    grant_id: Id
    enterprise_id: Id
    enterprise: str
    app_id: Id
    app: str
    scopes: list[str]
    granted_ms: int


class AskedScope(Value):
    """Something that an app asks for, in words for people."""

    name: str
    title: str


class SignedIn(Value):
    """Where the micro app's page goes next; None: first the person has to agree to what is `asked`."""

    redirect: str | None
    app: str
    asked: list[AskedScope]


class BridgeVerdict(Value):
    """What the host of a micro app may do for it."""

    app: str
    prompt: Literal["silent", "ask_once", "ask_always"]


class _Registration(Command[RegisteredApp]):
    title: AppTitle
    auth_method: ClientAuth
    redirect_uris: Annotated[list[Uri], Field(max_length=10, default_factory=list)]
    logout_uris: Annotated[list[Uri], Field(max_length=10, default_factory=list)]
    backchannel_uri: Uri | None = None  # is told when a session has ended: OpenID Connect Back-Channel Logout
    scopes: Scopes
    jwks: dict[str, Any] | None = None  # public keys, for private_key_jwt
    machine: bool = False
    money_related: bool = False


class RegisterApp(_Registration, action="gateway.apps.register"):
    """The bank registers an app that every enterprise may install."""

    resource_server: bool = False


class RegisterOwnApp(_Registration, action="gateway.apps.register_own"):
    """An administrator registers an app for the own enterprise alone."""


class SuspendApp(Command[App], action="gateway.apps.suspend"):
    """The bank stops an app everywhere at once, or lets it go on."""

    app_id: Id
    suspended: bool = True


class RenewSecret(Command[AppSecret], action="gateway.apps.renew_secret"):
    """A new secret for an app that one's own enterprise has registered."""

    app_id: Id


class ChangeApp(Command[App], action="gateway.apps.change"):
    """Other addresses or keys for an app that one's own enterprise has registered; what is not given stays.

    Lists replace the lists before. Where an address or a key is taken away, all tokens of the app end with it.
    """

    app_id: Id
    redirect_uris: Annotated[list[Uri], Field(max_length=10)] | None = None
    logout_uris: Annotated[list[Uri], Field(max_length=10)] | None = None
    backchannel_uri: Annotated[str, StringConstraints(max_length=512)] | None = (
        None  # '': tell nobody any more
    )
    jwks: dict[str, Any] | None = None  # all public keys from now on, for private_key_jwt


class ListApps(Command[list[App]], action="gateway.apps.list"):
    """The apps one's enterprise may install: its own and the published ones."""

    after: Id = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class InstallApp(Command[Installation], action="gateway.apps.install"):
    """Let an app into the own enterprise, or change what it may see there."""

    app_id: Id
    scopes: Scopes
    days: Annotated[int, Field(ge=1, le=366)] | None = None  # None: without end, where that is allowed


class UninstallApp(Command[None], action="gateway.apps.uninstall"):
    """Put an app out of the own enterprise; everything it was given there ends at once."""

    app_id: Id


class ListInstallations(Command[list[Installation]], action="gateway.apps.installations"):
    """The apps in the own enterprise."""


class ListGrants(Command[list[AppGrant]], action="gateway.apps.grants"):
    """What one has allowed which app, in all of one's enterprises."""


class RevokeGrant(Command[None], action="gateway.apps.revoke_grant"):
    """Take back what one has allowed an app."""

    grant_id: Id


class SignIn(Command[SignedIn], action="gateway.apps.sign_in"):
    """A micro app inside our own app asks for a code: its authorization request, answered without another login.

    `agreed`: the scopes that the host has shown, and to which the person said yes.
    """

    parameters: Annotated[dict[str, Annotated[str, StringConstraints(max_length=2048)]], Field(max_length=40)]
    agreed: Annotated[list[ScopeName], Field(max_length=100, default_factory=list)]


class CheckBridge(Command[BridgeVerdict], action="gateway.apps.check_bridge"):
    """The host of a micro app asks, on every call of its page, whether the page may have it."""

    bridge_token: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    origin: Uri
    api: BridgeApi
