"""The demonstration's conversations: there after the first start, the same after the second."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.actions import Principal
from core.runtime import Runtime
from gateway import demo as gateway_demo
from gateway.people import ActivePeople
from hub.service import HubService
from hub.streams.store import stream_ids
from hub.verify import verify
from im import api, demo
from im.messages.rules import Policy
from im.service import ImService
from tests.hub.harness import OpenGate
from tests.world import process, settings_for


async def _look(runtime: Runtime, person: gateway_demo.DemoPerson) -> list[api.Conversation]:
    who = Principal(
        person.person_id, person.enterprise_id, frozenset({"employee"}), 1, "d", runtime.clock.now_ms() + 1000
    )
    return (await runtime.calls.call(api.ListConversations(), principal=who)).conversations


async def test_a_first_look_is_not_empty_and_another_start_adds_nothing(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = [HubService(OpenGate(), Policy(), listen=False), ImService(ActivePeople())]
    async with process(settings_for(database, tmp_path), services) as runtime:
        people = await gateway_demo.seed(runtime)
        with monkeypatch.context() as cut_off:  # the first start was killed half-way
            cut_off.setattr(demo, "TALKS", demo.TALKS[:2])
            await demo.seed(runtime, people)
        await demo.seed(runtime, people)
        by_login = {p.login: p for p in reversed(people)}
        boss = await _look(runtime, by_login["zhangwei"])
        assert [c.title for c in boss] == ["全员群", "财务群", None]
        assert boss[-1].peer_id == by_login["wangfang"].person_id
        assert all(c.unread > 0 and c.last is not None and c.last.kind == "text" for c in boss)
        assert [c.title for c in await _look(runtime, by_login["liuyang"])] == ["全员群", "财务群", None]
        assert await _look(runtime, by_login["zhoutao"]) == []

        before = (await stream_ids(runtime.db, 0, 100), (await verify(runtime.db)).entries)
        assert before[1] == sum(len(t.lines) + (2 if t.title else 1) for t in demo.TALKS)
        await demo.seed(runtime, await gateway_demo.seed(runtime))
        assert (await stream_ids(runtime.db, 0, 100), (await verify(runtime.db)).entries) == before
