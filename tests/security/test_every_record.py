"""Every action there is leaves its record: when it is carried out, when it is refused; reads when access is refused."""

from __future__ import annotations

from typing import Any

import pytest

from core import dispatch
from core.access import ROLES
from core.actions import PUBLIC, Action, Rate
from core.db import Sql
from core.errors import BankhubError, Forbidden, Invalid, NotFound, TooManyRequests, Unauthenticated
from tests.core.audit import chainer, verified
from tests.security.examples import EXAMPLES
from tests.security.test_every_action import Twins, _call, each_action, twins

__all__ = ["twins"]

_RECORDS = Sql(
    "SELECT outcome, person_id, enterprise_id, trace_id, address FROM core_audit "
    "WHERE action = $1 AND audit_id > $2 ORDER BY audit_id",
    None,
    "tests",
)


@pytest.mark.requirement("D04")
@pytest.mark.parametrize("login", ["huangting", "wangfang"])
@each_action
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_done_or_refused_is_recorded(
    twins: Twins, action: Action[Any, Any], login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One caller may next to nothing, the other has every role."""
    monkeypatch.setattr(dispatch, "_REFUSALS", Rate(100_000, 1.0))  # here somebody is refused all day
    runtime = twins.runtime
    who = twins.principal(login, twins.ours, *(ROLES if login == "wangfang" else ()))
    before, refusal = runtime.ids.next(), None
    try:
        await _call(twins, action, who, EXAMPLES[action.name].fields(twins.ours))
    except BankhubError as error:
        refusal = error
    records = [row["outcome"] for row in await runtime.db.fetch(_RECORDS, action.name, before)]
    if isinstance(refusal, Invalid | TooManyRequests) or "at this moment" in str(refusal):
        return  # not understood, or not looked at
    if refusal is None:
        assert ("ok" in records) == action.audited
    elif action.audited or isinstance(refusal, Forbidden | Unauthenticated):
        assert refusal.code in records
    else:
        assert set(records) <= {"not_found"}
        assert isinstance(refusal, NotFound) or action.needs is PUBLIC


@pytest.mark.requirement("D03", "D04")
@pytest.mark.asyncio(loop_scope="module")
async def test_all_of_it_is_one_chain_for_each_tenant(twins: Twins) -> None:
    await chainer(twins.runtime, None).run_once()
    found = await verified(twins.runtime)
    assert found.faults == []
    assert found.waiting == 0
    assert found.tenants >= 3
