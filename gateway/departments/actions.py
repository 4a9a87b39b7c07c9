"""Looking at the tree of departments and changing it."""

from __future__ import annotations

from core.actions import Context, action
from core.errors import Conflict, Invalid, NotFound
from gateway.access import store as access
from gateway.api import (
    CONTACTS_READ,
    DEPARTMENTS_MANAGE,
    ChangeDepartment,
    CreateDepartment,
    DeleteDepartment,
    Department,
    ListDepartments,
)
from gateway.departments import rules, store
from gateway.identity.store import lock_enterprise
from gateway.parts import parts


@action(ListDepartments, needs=CONTACTS_READ, audited=False)
async def list_departments(ctx: Context, command: ListDepartments) -> list[Department]:
    """All departments, flat, in the order of showing, with their heads and how many are directly in them."""
    return await _shown(ctx)


@action(CreateDepartment, needs=DEPARTMENTS_MANAGE)
async def create(ctx: Context, command: CreateDepartment) -> Department:
    """Add a department, at the top or below another."""
    tree = await _locked(ctx)
    if command.parent_id is not None and command.parent_id not in dict(tree):
        raise NotFound
    if len(tree) >= rules.COUNT or rules.too_deep(tree, None, command.parent_id):
        raise Invalid(f"at most {rules.COUNT} departments in {rules.DEPTH} levels")
    department_id = ctx.ids.next()
    await store.insert(
        ctx.tx,
        ctx.enterprise_id,
        department_id,
        parent_id=command.parent_id,
        name=command.name,
        position=command.position,
        now=ctx.clock.now(),
    )
    ctx.audit(object=department_id, after=command.model_dump())
    return await _one(ctx, department_id)


@action(ChangeDepartment, needs=DEPARTMENTS_MANAGE)
async def change(ctx: Context, command: ChangeDepartment) -> Department:
    """Rename or move a department with all that is below it, never below itself. Reach by departments follows."""
    tree = await _locked(ctx)
    known = dict(tree)
    if command.department_id not in known or (
        command.parent_id is not None and command.parent_id not in known
    ):
        raise NotFound
    if rules.would_circle(tree, command.department_id, command.parent_id):
        raise Conflict("a department cannot be below itself")
    if rules.too_deep(tree, command.department_id, command.parent_id):
        raise Invalid(f"at most {rules.DEPTH} levels")
    before = await _one(ctx, command.department_id)
    await store.change(
        ctx.tx,
        ctx.enterprise_id,
        command.department_id,
        parent_id=command.parent_id,
        name=command.name,
        position=command.position,
    )
    ctx.audit(object=command.department_id, before=before.model_dump(), after=command.model_dump())
    parts(ctx).regrant(ctx, [(0, ctx.enterprise_id)])
    return await _one(ctx, command.department_id)


@action(DeleteDepartment, needs=DEPARTMENTS_MANAGE)
async def delete(ctx: Context, command: DeleteDepartment) -> None:
    """Remove a department that has no members and none below it."""
    tree = await _locked(ctx)
    if command.department_id in {parent for _, parent in tree}:
        raise Conflict("there are departments below")
    if await store.members(ctx.tx, ctx.enterprise_id, command.department_id):
        raise Conflict("somebody is in this department")
    if command.department_id not in {one for one, _ in tree}:
        raise NotFound
    before = await _one(ctx, command.department_id)
    await store.delete(ctx.tx, ctx.enterprise_id, command.department_id)
    ctx.audit(object=command.department_id, before=before.model_dump())


async def _locked(ctx: Context) -> list[tuple[int, int | None]]:
    await lock_enterprise(ctx.tx, ctx.enterprise_id)
    return await access.departments(ctx.tx, ctx.enterprise_id)


async def _one(ctx: Context, department_id: int) -> Department:
    return next(one for one in await _shown(ctx) if one.department_id == department_id)


async def _shown(ctx: Context) -> list[Department]:
    counts: dict[int, int] = {}
    heads: dict[int, list[int]] = {}
    for row in await store.placements(ctx.tx, ctx.enterprise_id):
        counts[row["department_id"]] = counts.get(row["department_id"], 0) + 1
        if row["is_head"]:
            heads.setdefault(row["department_id"], []).append(row["person_id"])
    return [
        Department(
            department_id=row["department_id"],
            parent_id=row["parent_id"],
            name=row["name"],
            position=row["position"],
            members=counts.get(row["department_id"], 0),
            heads=heads.get(row["department_id"], []),
        )
        for row in await store.everything(ctx.tx, ctx.enterprise_id)
    ]
