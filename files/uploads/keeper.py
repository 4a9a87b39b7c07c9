"""Makes files of what requests have brought whole, many in one transaction (docs/decisions/0026).

What arrives while one transaction commits shares the next one, so a group is as large as the database is slow and who
comes alone does not wait. Keys are inserted without looking; only where one was used before is the group decided
again with a look-up. People's rows of usage are locked at its beginning, the enterprise's at its very end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from core import audit
from core.access import decide
from core.context import Context
from core.db import Contention, Transaction, UniqueViolation
from core.errors import BankhubError, Conflict, Forbidden, Internal, Unavailable
from core.failpoints import failpoint
from files.api import FILES_SEND, File, Keep
from files.inspection.kinds import BY_NAME
from files.library import store as library
from files.library.keeping import is_there
from files.parts import Row, shown_in
from files.room import store as room
from files.room.actions import limits_of
from files.uploads.group import Group

if TYPE_CHECKING:
    from core.runtime import Runtime
    from files.service import FilesService

log = structlog.get_logger(__name__)

GROUP_MAX: Final = 64  # files of one transaction: longer ones make the others of an enterprise wait
PENDING_MAX: Final = 1_000  # some seconds' worth; beyond it the sender is asked to wait
ATTEMPTS: Final = 5  # of a group against races with other processes


class _Again(Exception):
    """There is less room than was seen: decide again with all of it locked."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One call of `Keep`."""

    ctx: Context
    asked: Keep
    done: asyncio.Future[File]


Outcome = tuple[Waiting, "File | BankhubError", bool]  # the last: it is new


class Keeper:
    """See the module. One instance a process."""

    def __init__(self, runtime: Runtime, files: FilesService) -> None:
        self._runtime, self._service = runtime, files
        self._pending: list[Waiting] = []
        self._wake, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="files.keeper")

    async def close(self) -> None:
        """Commit what waits, then end."""
        await self._idle.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def keep(self, ctx: Context, asked: Keep) -> File:
        """The file, committed. Raises what speaks against it, `Unavailable` where too many wait."""
        if len(self._pending) >= PENDING_MAX:
            raise Unavailable("too many files are waiting to be kept", retry_ms=500)
        done: asyncio.Future[File] = asyncio.get_running_loop().create_future()
        self._pending.append(Waiting(ctx, asked, done))
        self._idle.clear()
        self._wake.set()
        return await done

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                group, self._pending = self._pending[:GROUP_MAX], self._pending[GROUP_MAX:]
                if staying := [one for one in group if not one.done.done()]:  # who left is not kept
                    await self._settle(staying)
            self._idle.set()

    async def _settle(self, group: list[Waiting]) -> None:
        """Answer all of a group. One that fails for another reason than the database's state is tried one by one."""
        try:
            outcomes, spare = await self._commit(group)
        except Exception as error:
            failure = error if isinstance(error, BankhubError) else Internal()
            if failure is not error:
                failure.__cause__ = error  # logged by the dispatcher
            if len(group) > 1 and not failure.temporary:
                log.warning("files.group_apart", files=len(group), error=type(error).__name__)
                for one in group:
                    await self._settle([one])
                return
            for one in group:
                if not one.done.done():
                    one.done.set_exception(failure)
        else:
            for answered in outcomes:
                _answer(*answered)
            self._follow(outcomes, spare=spare)

    def _follow(self, outcomes: Sequence[Outcome], *, spare: bool) -> None:
        """What goes on after a commit."""
        if spare:
            self._service.sweep_soon()
        for one, outcome, new in outcomes:
            if isinstance(outcome, File) and not new:
                self._service.forget_soon(one.asked.object_id)
            elif isinstance(outcome, File) and outcome.state == library.CHECKING:
                self._service.check_soon(outcome.file_id, one.ctx.enterprise_id)

    async def _commit(self, group: list[Waiting]) -> tuple[list[Outcome], bool]:
        failure: Exception | None = None
        for _ in range(ATTEMPTS):
            try:
                return await self._runtime.db.run(self._together, group, closely=failure is not None)
            except (UniqueViolation, _Again) as error:
                failure = error
        raise Contention("others keep bringing the same", retry_ms=200) from failure

    async def _together(
        self, tx: Transaction, group: list[Waiting], *, closely: bool
    ) -> tuple[list[Outcome], bool]:
        """One transaction; nothing is written before every file of it is decided."""
        tenants: dict[int, list[Waiting]] = {}
        for one in group:
            tenants.setdefault(one.ctx.enterprise_id, []).append(one)
        outcomes: list[Outcome] = []
        groups: list[Group] = []
        for enterprise_id in sorted(tenants):
            made = await self._known(tx, enterprise_id, tenants[enterprise_id], closely)
            outcomes += await self._decide(tx, made, tenants[enterprise_id], closely)
            groups.append(made)
        for made in groups:
            for lost, _ in made.healed:
                await library.drop_content(tx, made.enterprise_id, lost)
        await library.insert_contents(tx, [row for made in groups for row in made.contents])
        for made in groups:
            for lost, content_id in made.healed:
                await library.hand_over(tx, made.enterprise_id, lost, content_id)
        await library.insert_files(tx, [row for made in groups for row in made.files])
        await audit.insert(
            tx, [_record(one, file, new) for one, file, new in outcomes if isinstance(file, File)]
        )
        for made in groups:
            await room.add_locked(tx, made.enterprise_id, made.taken, made.used)
        for made in groups:
            size, files = made.taken_by_all
            everybody = (made.enterprise_id, room.EVERYBODY, size, made.quota_of_all, files)
            if files and not await room.take(tx, *everybody):
                raise _Again  # others have taken it meanwhile
        await failpoint("files.before_commit")
        return outcomes, any(made.spare for made in groups)

    async def _known(self, tx: Transaction, enterprise_id: int, group: list[Waiting], closely: bool) -> Group:
        """What the database says of these, as far as it matters; locked but for the enterprise's room."""
        people = {one.ctx.caller.person_id for one in group}
        policy = await room.policy(tx, enterprise_id)
        quota, quota_of_all, own_key = limits_of(self._runtime.settings, policy)
        if closely:
            used = await room.lock(tx, enterprise_id, [*people, room.EVERYBODY])
            used_by_all = used.get(room.EVERYBODY, 0)
        else:
            used = await room.lock(tx, enterprise_id, people)
            _, (used_by_all, _) = await room.used(tx, enterprise_id, room.EVERYBODY)
        earlier: dict[tuple[int, str], Row] = {}
        for person_id in sorted(people) if closely else ():
            keys = [one.asked.key for one in group if one.ctx.caller.person_id == person_id and one.asked.key]
            found = await library.by_keys(tx, enterprise_id, person_id, keys)
            earlier |= {(person_id, key): row for key, row in found.items()}
        same, lost = await self._same(tx, enterprise_id, group)
        return Group(
            enterprise_id, self._runtime.clock.now(), self._runtime.ids.next, quota, quota_of_all, own_key,
            used, used_by_all, same, lost, earlier,
        )  # fmt: skip

    async def _same(
        self, tx: Transaction, enterprise_id: int, group: list[Waiting]
    ) -> tuple[dict[str, tuple[int, str | None]], dict[str, int]]:
        """What the enterprise has of these contents, and what it has lost, as `Group` has them. What no scanner has
        seen is not the same once there is a scanner."""
        identities = [
            library.identity_of(
                one.asked.sha256, one.asked.size_bytes, one.asked.kind, own_key=one.asked.wrapped_key is not None
            )
            for one in group
        ]  # fmt: skip
        found = await library.contents(tx, enterprise_id, identities)
        seen = {
            name: row for name, row in found.items() if row["scanned"] is not None or not self._service.scans
        }
        there = await asyncio.gather(*(is_there(group[0].ctx, row) for row in seen.values()))
        whole = {name for name, is_whole in zip(seen, there, strict=True) if is_whole}
        same = {name: (int(seen[name]["content_id"]), seen[name]["facts"]) for name in whole}
        return same, {name: int(row["content_id"]) for name, row in seen.items() if name not in whole}

    async def _decide(
        self, tx: Transaction, made: Group, group: list[Waiting], closely: bool
    ) -> list[Outcome]:
        people = {(one.ctx.caller.person_id, one.ctx.caller.client_id): one.ctx.caller for one in group}
        found = await self._runtime.access.grants_of_all(tx, list(people.values()))
        grants = dict(zip(people, found, strict=True))
        refused: list[Outcome] = []
        kept: list[tuple[Waiting, Row, bool]] = []
        for one in group:
            who, asked = one.ctx.caller, one.asked
            has = grants[who.person_id, who.client_id]
            try:
                if (refusal := decide(FILES_SEND, who, has, internal=True).refusal) is not None:
                    raise refusal
                kept.append((one, *await self._add(tx, made, who.person_id, asked, closely)))
            except BankhubError as error:
                refused.append((one, error, False))
        files = await shown_in(tx, made.enterprise_id, [row for _, row, _ in kept])
        return [
            *((one, file, new) for (one, _, new), file in zip(kept, files, strict=True)),
            *refused,
        ]

    async def _add(
        self, tx: Transaction, made: Group, person_id: int, asked: Keep, closely: bool
    ) -> tuple[Row, bool]:
        """`Group.add`; before one with a key is refused, its key is looked up: perhaps it has its answer."""
        at_once = not self._service.checks(BY_NAME[asked.kind].work)
        try:
            return made.add(person_id, asked, at_once=at_once)
        except (Conflict, Forbidden):
            if asked.key is None or closely:
                raise
            found = await library.by_keys(tx, made.enterprise_id, person_id, [asked.key])
            if asked.key not in found:
                raise
            made.earlier[person_id, asked.key] = found[asked.key]
            return made.add(person_id, asked, at_once=at_once)


def _answer(one: Waiting, outcome: File | BankhubError, new: bool) -> None:
    one.ctx.recorded = isinstance(outcome, File)
    if one.done.done():
        return  # its caller has left
    if isinstance(outcome, File):
        one.done.set_result(outcome)
    else:
        one.done.set_exception(outcome)


def _record(one: Waiting, file: File, new: bool) -> audit.Row:
    """Its row of the audit."""
    assert one.ctx.action is not None
    one.ctx.noted.clear()
    if new:
        one.ctx.audit(object=file.file_id, after=one.asked.sha256.hex())
    request = one.asked.model_dump()
    return audit.row_of(one.ctx, one.ctx.action, one.asked, request, "ok", result=file)
