"""The tree of departments."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from core.actions import Command, Id, Permission, Value
from gateway.api.identity import Name

DEPARTMENTS_MANAGE = Permission("departments:manage", "管理部门", {"administrator"}, risk=1)

Position = Annotated[int, Field(ge=0, le=1_000_000)]


class Department(Value):
    """A department; `parent_id` None: at the top. `members` counts those directly in it."""

    department_id: Id
    parent_id: Id | None
    name: str
    position: int
    members: int
    heads: list[Id]


class ListDepartments(Command[list[Department]], action="gateway.departments.list"):
    """All departments, flat, in the order of showing."""


class CreateDepartment(Command[Department], action="gateway.departments.create"):
    """A new department."""

    name: Name
    parent_id: Id | None = None
    position: Position = 0


class ChangeDepartment(Command[Department], action="gateway.departments.change"):
    """Another name or another place; `parent_id` None moves it to the top."""

    department_id: Id
    name: Name
    parent_id: Id | None = None
    position: Position = 0


class DeleteDepartment(Command[None], action="gateway.departments.delete"):
    """Remove a department that is empty: without members and departments below."""

    department_id: Id
