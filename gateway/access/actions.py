"""Looking at permissions; making, changing and removing an enterprise's own roles."""

from __future__ import annotations

from collections.abc import Sequence

from core.access import BANK, STAFF, Grant, Permission, Reach, decide
from core.actions import MEMBER, PERSON, Context, action
from core.db import UniqueViolation
from core.errors import Conflict, Invalid, NotFound, Unauthenticated
from gateway.access import store
from gateway.access.titles import TITLES
from gateway.api import (
    ROLES_MANAGE,
    ROLES_READ,
    ChangeRole,
    CreateRole,
    DeleteRole,
    GrantInfo,
    ListPermissions,
    ListRoles,
    MyAccess,
    PermissionInfo,
    Permissions,
    RoleInfo,
    Roles,
    ShowMyAccess,
)
from gateway.identity.store import lock_enterprise
from gateway.parts import parts
from gateway.stepup import describe


@action(ListPermissions, needs=MEMBER, audited=False)
async def permissions(ctx: Context, command: ListPermissions) -> Permissions:
    """The table of permissions of one's realm, by name."""
    shown = [
        PermissionInfo(
            name=one.name,
            title=one.title,
            roles=sorted(one.roles),
            risk=one.risk,
            scope=one.scope,
            contracted=one.contracted,
            assignable=one.assignable,
        )
        for one in _table(ctx)
    ]
    return Permissions(permissions=shown)


@action(ShowMyAccess, needs=PERSON, audited=False)
async def mine(ctx: Context, command: ShowMyAccess) -> MyAccess:
    """What one may do oneself, as of now."""
    grants = ctx.grants
    if grants is None or grants.level is None:
        raise Unauthenticated
    held = [(one, grants.of(one)) for one in _table(ctx) if decide(one, ctx.caller, grants).allowed]
    return MyAccess.model_validate(
        {
            "level": grants.level.name.lower(),
            "roles": sorted(grants.roles),
            "grants": [_shown(one.name, grant) for one, grant in held if grant is not None],
        }
    )


@action(ListRoles, needs=ROLES_READ, audited=False)
async def roles(ctx: Context, command: ListRoles) -> Roles:
    """Built-in roles and the enterprise's own, with how many people have them."""
    tx, enterprise_id = ctx.tx, ctx.enterprise_id
    counts = await store.holders(tx, enterprise_id)
    own: dict[str, list[GrantInfo]] = {}
    for row in await store.own_grants(tx, enterprise_id):
        grant = Grant(Reach(row["reach"]), row["amount_fen"])
        own.setdefault(row["role"], []).append(_shown(row["permission"], grant))
    table = _table(ctx)
    built_in = BANK if ctx.held[0].realm == "bank" else STAFF
    found = [
        RoleInfo(
            role=role,
            name=title,
            built_in=True,
            members=counts.get(role, 0),
            grants=[_shown(one.name, Grant()) for one in table if role in one.roles],
        )
        for role, title in TITLES.items()
        if role in built_in
    ]
    for role, name in (await store.own_roles(tx, enterprise_id)).items():
        found.append(
            RoleInfo(
                role=role, name=name, built_in=False, members=counts.get(role, 0), grants=own.get(role, [])
            )
        )
    return Roles(roles=found)


@action(CreateRole, needs=ROLES_MANAGE, step_up="sign", describe=describe.making_role)
async def create_role(ctx: Context, command: CreateRole) -> RoleInfo:
    """Make a role out of permissions that own roles may have."""
    grants, role = _checked(ctx, command.grants), str(ctx.ids.next())
    try:
        await store.insert_role(ctx.tx, ctx.enterprise_id, role, command.name, ctx.clock.now())
    except UniqueViolation as error:
        raise Conflict("there is a role of this name") from error
    await store.set_grants(ctx.tx, ctx.enterprise_id, role, grants)
    ctx.audit(object=role, after=[command.name, grants])
    return RoleInfo(role=role, name=command.name, built_in=False, members=0, grants=command.grants)


@action(ChangeRole, needs=ROLES_MANAGE, step_up="sign", describe=describe.changing_role)
async def change_role(ctx: Context, command: ChangeRole) -> RoleInfo:
    """Give an own role another name and other permissions; they hold at once."""
    grants, role = _checked(ctx, command.grants), str(command.role_id)
    await lock_enterprise(ctx.tx, ctx.enterprise_id)
    try:
        if not await store.rename_role(ctx.tx, ctx.enterprise_id, role, command.name):
            raise NotFound
    except UniqueViolation as error:
        raise Conflict("there is a role of this name") from error
    before = [
        list(row)[1:] for row in await store.own_grants(ctx.tx, ctx.enterprise_id) if row["role"] == role
    ]
    await store.set_grants(ctx.tx, ctx.enterprise_id, role, grants)
    ctx.audit(object=role, before=before, after=[command.name, grants])
    parts(ctx).regrant(ctx, [(0, ctx.enterprise_id)])
    counts = await store.holders(ctx.tx, ctx.enterprise_id)
    return RoleInfo(
        role=role, name=command.name, built_in=False, members=counts.get(role, 0), grants=command.grants
    )


@action(DeleteRole, needs=ROLES_MANAGE)
async def delete_role(ctx: Context, command: DeleteRole) -> None:
    """Remove an own role that nobody has."""
    role = str(command.role_id)
    await lock_enterprise(ctx.tx, ctx.enterprise_id)  # nobody is given the role meanwhile
    if (await store.holders(ctx.tx, ctx.enterprise_id)).get(role):
        raise Conflict("somebody has this role")
    before = [
        list(row)[1:] for row in await store.own_grants(ctx.tx, ctx.enterprise_id) if row["role"] == role
    ]
    if not await store.delete_role(ctx.tx, ctx.enterprise_id, role):
        raise NotFound
    ctx.audit(object=role, before=before)


def _table(ctx: Context) -> list[Permission]:
    realm = ctx.held[0].realm
    return [one for one in parts(ctx).permissions.values() if one.realm == realm]


def _checked(ctx: Context, grants: Sequence[GrantInfo]) -> list[tuple[str, int, int | None]]:
    """As rows. Raises `Invalid` for what an own role cannot have."""
    known = {one.name for one in _table(ctx) if one.assignable}
    rows = []
    for grant in grants:
        if grant.permission not in known:
            raise Invalid(f"own roles cannot have {grant.permission}")
        rows.append((grant.permission, int(Reach[grant.reach.upper()]), grant.amount_fen))
    if len({row[0] for row in rows}) < len(rows):
        raise Invalid("a permission is named twice")
    return sorted(rows)


def _shown(permission: str, grant: Grant) -> GrantInfo:
    return GrantInfo.model_validate(
        {"permission": permission, "reach": grant.reach.name.lower(), "amount_fen": grant.amount_fen}
    )
