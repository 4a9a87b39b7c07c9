"""Who may do what. Decided without I/O: permissions, what roles hold of them, and the rules about attributes.

An action says what it needs; a person's `Grants` say what they have, as the database knows it; `decide` compares the
two and gives its reasons, which `bankhub explain-access` prints. Where the record itself matters (whose it is, of
which department, over which amount), the handler asks `within`. There is no other place where access is decided.

    CARDS_MANAGE = Permission("cards:manage", "管理名片", roles={"administrator"})

    @action(Rename, needs=CARDS_MANAGE)
    async def rename(ctx: Context, command: Rename) -> Card:
        card = await store.card(ctx.tx, ctx.enterprise_id, command.card_id)
        ctx.allow(Resource(owner_id=card.owner_id))
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from core.errors import BankhubError, Forbidden, NotFound, Unauthenticated

if TYPE_CHECKING:
    from core.db import Transaction

# --- who --------------------------------------------------------------------------------------------------------------

STAFF: Final = frozenset({"employee", "finance_maker", "finance_reviewer", "boss", "administrator"})
"""The built-in roles of an enterprise's people."""
BANK: Final = frozenset(
    {"bank_operator", "bank_reviewer", "bank_auditor", "bank_support", "bank_administrator"}
)
"""The built-in roles of the bank's operations staff, in a tenant of their own."""
ROLES: Final = STAFF | BANK
SERVICE_ROLE: Final = "service"
SECOND_FACTOR: Final = 2
"""`Principal.acr` of a session that began with a second factor or on a device bound by its key."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: one person on one device, in one enterprise or none (0), as the access token says; or a service.

    `roles` are the token's and up to ten minutes old: for showing, never for deciding. `scopes` is None in our own
    clients; a third-party app (`client_id`) has those that the person and the enterprise have granted to it.
    """

    person_id: int
    enterprise_id: int
    roles: frozenset[str]
    session_id: int
    device: str
    expires_at_ms: int
    acr: int = 1
    scopes: frozenset[str] | None = None
    client_id: str = ""
    jkt: str = ""  # thumbprint of the device's key that the token is bound to; '': a bearer token

    @property
    def is_service(self) -> bool:
        return SERVICE_ROLE in self.roles


def service_principal(enterprise_id: int, expires_at_ms: int, service: str) -> Principal:
    """A service acting for itself, for one enterprise (0: none)."""
    return Principal(0, enterprise_id, frozenset({SERVICE_ROLE}), 0, service, expires_at_ms)


class Level(IntEnum):
    """How far somebody has come: 游客, 注册用户, 企业成员, 签约企业成员."""

    GUEST = 1  # a phone that answered
    REGISTERED = 2  # a name, a password, the agreement
    MEMBER = 3  # an active membership of the enterprise of the token
    CONTRACTED = 4  # and that enterprise has signed with the bank


# --- what an action needs ---------------------------------------------------------------------------------------------

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?:[a-z][a-z0-9_]*")
Realm = Literal["enterprise", "bank"]


@dataclass(frozen=True, slots=True)
class Access:
    """A kind of caller that needs no permission of its own; use the five constants."""

    kind: str


PUBLIC: Final = Access("public")  # anybody, logged in or not
PERSON: Final = Access("person")  # any person who is logged in, guests too; services
REGISTERED: Final = Access("registered")  # a person with a name and a password; services
MEMBER: Final = Access("member")  # an active member of the enterprise of the token; services
INTERNAL: Final = Access("internal")  # only other services, on whosever behalf; never from outside

_LEAST: Final = {PERSON: Level.GUEST, REGISTERED: Level.REGISTERED, MEMBER: Level.MEMBER}


PERMISSION_TITLES: Final[dict[str, str]] = {}
"""The title of every permission this process has imported, by its name: for what people read."""


@dataclass(frozen=True, slots=True)
class Permission:
    """A right that roles hold: ``object:verb``, its Chinese `title`, and the built-in roles that have it to begin with.

    `risk` goes from 0 for what everybody may see to 3 for bank data. `scope` lets third-party apps ask for it (never
    for what moves money). `contracted` ones are there only in enterprises that have signed with the bank. `assignable`
    ones may be put into an enterprise's own roles.
    """

    name: str
    title: str
    roles: frozenset[str] | set[str]
    realm: Realm = "enterprise"
    risk: int = 0
    scope: bool = False
    contracted: bool = False
    assignable: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", frozenset(self.roles))
        PERMISSION_TITLES[self.name] = self.title
        known = STAFF if self.realm == "enterprise" else BANK
        if not _NAME.fullmatch(self.name):
            raise TypeError(f"{self.name!r} does not name a permission: object:verb")
        if not self.roles <= known:
            raise TypeError(
                f"{self.name}: {sorted(self.roles - known)} are no roles of the realm {self.realm}"
            )
        if self.scope and (self.risk > 2 or self.realm == "bank"):
            raise TypeError(
                f"{self.name}: what apps may ask for has a risk of at most 2 and is not the bank's own"
            )


Needs = Access | Permission


def permissions_of(needs: Iterable[Needs]) -> dict[str, Permission]:
    """The table of permissions, by name. Raises `TypeError` where two of one name differ."""
    table: dict[str, Permission] = {}
    for one in needs:
        if isinstance(one, Permission) and table.setdefault(one.name, one) != one:
            raise TypeError(f"permission {one.name} is declared twice")
    return dict(sorted(table.items()))


# --- what a person has ------------------------------------------------------------------------------------------------


class Reach(IntEnum):
    """Whose records a grant is about."""

    OWN = 1
    DEPARTMENT = 2  # those of the departments one is in
    TREE = 3  # and of the departments below
    ENTERPRISE = 4


@dataclass(frozen=True, slots=True)
class Grant:
    """How far a permission goes: over whose records, up to which amount (None: any)."""

    reach: Reach = Reach.ENTERPRISE
    amount_fen: int | None = None

    def joined(self, other: Grant) -> Grant:
        """What somebody has who has both."""
        open_end = self.amount_fen is None or other.amount_fen is None
        return Grant(
            max(self.reach, other.reach),
            None if open_end else max(self.amount_fen or 0, other.amount_fen or 0),
        )


@dataclass(frozen=True, slots=True)
class Grants:
    """What one person has in one enterprise, as the database says. `level` None: the account is closed."""

    level: Level | None
    roles: frozenset[str] = frozenset()
    custom: Mapping[str, Grant] = field(
        default_factory=dict
    )  # by permission, out of the enterprise's own roles
    realm: Realm | None = None
    departments: frozenset[int] = frozenset()
    tree: frozenset[int] = frozenset()  # departments and those below them

    def of(self, permission: Permission) -> Grant | None:
        """The grant of a permission; None: not held."""
        if permission.realm != self.realm:
            return None
        if not self.roles.isdisjoint(permission.roles):
            return Grant()
        return self.custom.get(permission.name) if permission.assignable else None


SERVICE_GRANTS: Final = Grants(Level.CONTRACTED)


class Grantor(Protocol):
    """Where grants come from: the gateway's tables in a running bank."""

    async def grants(self, who: Principal) -> Grants:
        """What `who` has, at most two seconds old: for reads and to refuse early."""
        ...

    async def grants_now(self, tx: Transaction, who: Principal) -> Grants:
        """What `who` has in this transaction: a write depends on no older knowledge."""
        ...

    async def grants_of_all(self, tx: Transaction, people: Sequence[Principal]) -> list[Grants]:
        """The same for several, in their order, for who writes for many at once."""
        ...

    def forget(self, person_id: int, enterprise_id: int) -> None:
        """What was remembered of this member is not true any more; person 0: of everybody in the enterprise."""
        ...


class TokenGrants:
    """Believes the token. For processes without identities: tests of core, tools."""

    async def grants(self, who: Principal) -> Grants:
        """See `Grantor`."""
        level = Level.CONTRACTED if who.enterprise_id else Level.REGISTERED
        return Grants(level, who.roles, realm="bank" if who.roles & BANK else "enterprise")

    async def grants_now(self, tx: Transaction, who: Principal) -> Grants:
        """See `Grantor`."""
        return await self.grants(who)

    async def grants_of_all(self, tx: Transaction, people: Sequence[Principal]) -> list[Grants]:
        """See `Grantor`."""
        return [await self.grants(who) for who in people]

    def forget(self, person_id: int, enterprise_id: int) -> None:
        """Nothing was remembered."""


# --- decisions --------------------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """One rule and whether it holds. It is put into words when somebody reads it: nearly always nobody does."""

    holds: bool
    words: str  # with {} where the facts go
    facts: tuple[str | IntEnum | frozenset[str], ...] = ()

    @property
    def rule(self) -> str:
        """In words for people."""
        return self.words.format(*map(_said, self.facts))


def _said(fact: str | IntEnum | frozenset[str]) -> str:
    if isinstance(fact, IntEnum):
        return fact.name
    return fact if isinstance(fact, str) else ", ".join(sorted(fact)) or "the enterprise's own roles"


class Decision(NamedTuple):
    """Why somebody may or may not: every rule that was looked at; the last one decided if it does not hold."""

    checks: tuple[Check, ...]
    refusal: BankhubError | None = None

    @property
    def allowed(self) -> bool:
        return self.refusal is None


def decide(needs: Needs, who: Principal | None, grants: Grants | None, *, internal: bool = False) -> Decision:
    """Whether this caller may call what needs this. `grants` may be None where `needs` is PUBLIC or INTERNAL."""
    checks: list[Check] = []

    def holds(is_so: bool, words: str, *facts: str | IntEnum | frozenset[str]) -> bool:
        checks.append(Check(is_so, words, facts))
        return is_so

    def verdict(refusal: BankhubError | None) -> Decision:
        return Decision(tuple(checks), refusal)

    if needs is PUBLIC:
        holds(True, "anybody may")
        return verdict(None)
    if needs is INTERNAL:
        return verdict(None if holds(internal, "it is called by one of our services") else NotFound())
    if not holds(who is not None, "the caller is logged in") or who is None or grants is None:
        return verdict(Unauthenticated())
    if who.is_service:
        holds(True, "the caller is a service of ours")
        return verdict(None)
    if not holds(grants.level is not None, "the account is open") or grants.level is None:
        return verdict(Unauthenticated("the account is closed"))
    if isinstance(needs, Access):
        if who.scopes is not None and not holds(False, "apps need a scope, and this has none"):
            return verdict(Forbidden("an app may not call this"))
        least = _LEAST[needs]
        enough = holds(grants.level >= least, _LEVEL, least, grants.level)
        return verdict(None if enough else Forbidden(_too_low(least, who)))
    if who.scopes is not None and not holds(
        needs.scope and needs.name in who.scopes, "the app has the scope {}", needs.name
    ):
        return verdict(Forbidden("the app has no scope for this"))
    least = Level.CONTRACTED if needs.contracted else Level.MEMBER
    if not holds(grants.level >= least, _LEVEL, least, grants.level):
        return verdict(Forbidden(_too_low(least if grants.level >= Level.MEMBER else Level.MEMBER, who)))
    if grants.of(needs) is None:
        holds(False, "holds {}: {} would", needs.name, frozenset(needs.roles) or "no built-in role")
        return verdict(Forbidden())
    holds(True, "holds {}, by {}", needs.name, grants.roles & frozenset(needs.roles))
    if needs.realm == "bank" and not holds(who.acr >= SECOND_FACTOR, "a second factor was used"):
        return verdict(Forbidden("the bank's staff log in with a second factor"))
    return verdict(None)


_LEVEL: Final = "level is {} or more: it is {}"
_TOO_LOW: Final = {
    Level.GUEST: "log in first",
    Level.REGISTERED: "complete the registration first",
    Level.MEMBER: "the membership has ended",
    Level.CONTRACTED: "the enterprise has not signed with the bank",
}


def _too_low(least: Level, who: Principal) -> str:
    """What somebody lacks, in words that are true of them: who never belonged anywhere has not left either."""
    if least is Level.MEMBER and not who.enterprise_id:
        return "this is for members of an enterprise, and this session is in none"
    return _TOO_LOW[least]


@dataclass(frozen=True, slots=True)
class Resource:
    """A record as access sees it: whose it is, of which departments, over which amount, made by whom."""

    owner_id: int | None = None
    department_ids: frozenset[int] = frozenset()
    amount_fen: int | None = None
    maker_id: int | None = None  # who must not be the one to approve it


@dataclass(frozen=True, slots=True)
class Scope:
    """Which records a list may show: everybody's, or one's own and those of some departments."""

    everything: bool
    owner_id: int
    department_ids: frozenset[int] = frozenset()


def scope_of(grant: Grant, grants: Grants, person_id: int) -> Scope:
    """What a list query filters by, so that it shows what `within` would let through one by one."""
    departments = {Reach.DEPARTMENT: grants.departments, Reach.TREE: grants.tree}.get(
        grant.reach, frozenset()
    )
    return Scope(grant.reach is Reach.ENTERPRISE, person_id, departments)


def within(grant: Grant, grants: Grants, who: Principal, resource: Resource) -> Decision:
    """Whether a grant reaches this record: whose it is, its amount, and that nobody approves what he made."""
    checks = [
        Check(_reaches(grant.reach, grants, who, resource), _covers(grant.reach, grants, who, resource))
    ]
    if resource.amount_fen is not None:
        limit_fen = grant.amount_fen
        limit = "and there is no limit" if limit_fen is None else f"the limit is {limit_fen} fen"
        holds = limit_fen is None or resource.amount_fen <= limit_fen
        checks.append(
            Check(holds, f"the amount is within the limit: it is {resource.amount_fen} fen, {limit}")
        )
    if resource.maker_id is not None:
        checks.append(Check(resource.maker_id != who.person_id, "the maker is somebody else"))
    return Decision(tuple(checks), None if all(check.holds for check in checks) else Forbidden())


def _covers(reach: Reach, grants: Grants, who: Principal, resource: Resource) -> str:
    """The rule of a reach, with what it was compared with."""
    rule = f"reach {reach.name} covers the record"
    if reach is Reach.ENTERPRISE:
        return f"{rule}: everything in the enterprise"
    if resource.owner_id == who.person_id:
        return f"{rule}: it is the caller's own"
    if reach is Reach.OWN:
        return f"{rule}: it is somebody else's"
    mine = grants.departments if reach is Reach.DEPARTMENT else grants.tree
    return f"{rule}: it is in {_some(resource.department_ids)}, the caller's reach is {_some(mine)}"


def _some(department_ids: frozenset[int]) -> str:
    return f"department {', '.join(map(str, sorted(department_ids)))}" if department_ids else "no department"


def _reaches(reach: Reach, grants: Grants, who: Principal, resource: Resource) -> bool:
    if reach is Reach.ENTERPRISE or resource.owner_id == who.person_id:
        return True
    if reach is Reach.DEPARTMENT:
        return not grants.departments.isdisjoint(resource.department_ids)
    return reach is Reach.TREE and not grants.tree.isdisjoint(resource.department_ids)
