"""What people may do: the table of permissions, an enterprise's own roles, and what one holds oneself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from core.actions import Command, Id, Permission, Value
from gateway.api.identity import Name

ROLES_READ = Permission("roles:read", "查看角色和权限", {"administrator", "boss"}, risk=1)
ROLES_MANAGE = Permission("roles:manage", "管理角色", {"administrator"}, risk=3, assignable=False)

Reach = Literal["own", "department", "tree", "enterprise"]
PermissionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,40}:[a-z][a-z0-9_]{0,20}$")]


class PermissionInfo(Value):
    """A row of the table of permissions."""

    name: str
    title: str
    roles: list[str]  # the built-in ones that have it
    risk: int  # 0 to 3
    scope: bool  # third-party apps may ask for it
    contracted: bool  # only in enterprises that have signed with the bank
    assignable: bool  # own roles may have it


class GrantInfo(Value):
    """A permission in a role or of a person: over whose records, up to which amount in fen (None: any)."""

    permission: PermissionName
    reach: Reach = "enterprise"
    amount_fen: Annotated[int, Field(ge=0, le=10**15)] | None = None


class RoleInfo(Value):
    """A role: a built-in one, whose grants are fixed, or one of the enterprise's own."""

    role: str  # a name, or the decimal id of an own one
    name: str
    built_in: bool
    members: int
    grants: list[GrantInfo]


class Permissions(Value):
    """The table of permissions of one's realm, by name."""

    permissions: list[PermissionInfo]


class Roles(Value):
    """Built-in roles, then the enterprise's own by name."""

    roles: list[RoleInfo]


class MyAccess(Value):
    """What one holds here and now: what a client shows and hides by. The server decides again at every call."""

    level: Literal["guest", "registered", "member", "contracted"]
    roles: list[str]
    grants: list[GrantInfo]


# --- commands -------------------------------------------------------------------------------------------------------


class ListPermissions(Command[Permissions], action="gateway.access.permissions"):
    """The table of permissions, as the actions declare them."""


class ShowMyAccess(Command[MyAccess], action="gateway.access.mine"):
    """What one may do oneself."""


class ListRoles(Command[Roles], action="gateway.access.roles"):
    """Built-in roles and the enterprise's own."""


class CreateRole(Command[RoleInfo], action="gateway.access.create_role"):
    """Make a role out of permissions."""

    name: Name
    grants: Annotated[list[GrantInfo], Field(max_length=100)]


class ChangeRole(Command[RoleInfo], action="gateway.access.change_role"):
    """Give an own role another name and other permissions. Whoever has it has those from now on."""

    role_id: Id
    name: Name
    grants: Annotated[list[GrantInfo], Field(max_length=100)]


class DeleteRole(Command[None], action="gateway.access.delete_role"):
    """Remove an own role that nobody has."""

    role_id: Id
