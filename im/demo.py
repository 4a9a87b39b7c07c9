"""Conversations of the demonstration, so that a first look is not empty. For laptops and tests, never for production.

Everything is said through the same actions that people use. `seed` may run at every start: what people did to the
conversations since stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import structlog

from core.actions import Command, Principal
from core.runtime import Runtime
from im import api

log = structlog.get_logger(__name__)

R = TypeVar("R")


class Person(Protocol):
    """Somebody of the demonstration, in one enterprise."""

    @property
    def person_id(self) -> int: ...
    @property
    def enterprise_id(self) -> int: ...
    @property
    def login(self) -> str: ...


@dataclass(frozen=True)
class Line:
    """What somebody says; `reply_to` counts the lines of the conversation from 1."""

    who: str
    text: str
    mentions: Sequence[str] = ()
    reply_to: int | None = None
    must_ack: bool = False


@dataclass(frozen=True)
class Talk:
    """A group with a title, owned by the first of `who`; or the direct conversation of two."""

    name: str
    who: Sequence[str]
    title: str | None
    lines: Sequence[Line] = field(default_factory=tuple)


TALKS: Final = (
    Talk(
        "everybody",
        ("wangfang", "zhangwei", "liuyang", "lina", "chenjing", "yangmin", "zhaolei", "huangting"),
        "全员群",
        (
            Line("wangfang", "各位早上好，本周五下午三点在二楼会议室开经营会，请各部门准备材料。", must_ack=True),
            Line("yangmin", "车间收到，五号线的检修计划我一并带过去。"),
            Line("huangting", "收到。销售这边三季度回款表周四下班前发出。"),
            Line("zhangwei", "@李娜 资金预测也讲一下，重点说明下月到期的承兑汇票。", mentions=("lina",)),
            Line("lina", "好的张总，周四给您初稿。", reply_to=4),
            Line("wangfang", "另外提醒：十五号起考勤以手机银行定位打卡为准，纸质签到停用。"),
            Line("zhaolei", "请问外出检验当天怎么打卡？"),
            Line("wangfang", "先在外勤里提交申请，到现场再打，审批人是杨主任。", mentions=("zhaolei",), reply_to=7),
        ),
    ),
    Talk(
        "finance",
        ("lina", "liuyang", "zhangwei"),
        "财务群",
        (
            Line("liuyang", "李姐，河南中原轴承的货款 128,600.00 元已录入，请复核。"),
            Line("lina", "合同号和发票都核对过了，收款户名少了“股份”两个字，退回改一下。", reply_to=1),
            Line("liuyang", "已更正并重新提交。", mentions=("lina",)),
            Line("lina", "复核通过，金额超过十万，等张总授权。", mentions=("zhangwei",)),
            Line("zhangwei", "看到了，下午授权。以后大额付款请在上午十点前提交。"),
            Line("lina", "收到，已写进付款流程。"),
        ),
    ),
    Talk(
        "purchase",
        ("chenjing", "liuyang"),
        None,
        (
            Line("chenjing", "刘洋，上周轴承钢的采购款什么时候能付？供应商在催。"),
            Line("liuyang", "已经复核完了，在等授权，今天下班前应该能到账。"),
            Line("chenjing", "太好了，付完麻烦发一下电子回单。"),
            Line("liuyang", "没问题。"),
        ),
    ),
    # the last one: where it is complete, the demonstration is
    Talk(
        "assistant",
        ("zhangwei", "wangfang"),
        None,
        (
            Line("zhangwei", "王芳，下周二银行的客户经理来访，帮我安排一下会议室。"),
            Line("wangfang", "好的张总，一号会议室上午九点半，可以吗？"),
            Line("zhangwei", "可以。请李娜也参加，准备近三个月的流水。", reply_to=2),
            Line("wangfang", "已经通知她了，资料周一下午放您桌上。"),
        ),
    ),
)  # fmt: skip


async def seed(runtime: Runtime, people: Sequence[Person]) -> None:
    """Make what is missing in the enterprise of `people[0]`; needs the logins of `TALKS` among them."""
    enterprise_id = people[0].enterprise_id
    here = {p.login: p.person_id for p in people if p.enterprise_id == enterprise_id}
    speakers = _Speakers(runtime, enterprise_id, here)
    if await _complete(speakers, TALKS[-1]):
        return
    for talk in TALKS:
        await _hold(speakers, talk)
    log.info("im.demo_seeded", enterprise_id=enterprise_id, conversations=len(TALKS))


class _Speakers:
    """The people of the enterprise, as callers of actions."""

    def __init__(self, runtime: Runtime, enterprise_id: int, here: Mapping[str, int]) -> None:
        self._runtime, self._enterprise_id, self.ids = runtime, enterprise_id, here

    async def call(self, who: str, command: Command[R], *, key: str | None = None) -> R:
        expires_ms = self._runtime.clock.now_ms() + 60_000
        principal = Principal(
            self.ids[who], self._enterprise_id, frozenset({"employee"}), 0, "demo", expires_ms
        )
        return await self._runtime.calls.call(command, principal=principal, key=key)


async def _complete(speakers: _Speakers, talk: Talk) -> bool:
    who, peer = talk.who[0], speakers.ids[talk.who[1]]
    after = 0
    while True:
        page = await speakers.call(who, api.ListConversations(after=after, limit=200))
        if any(c.peer_id == peer and c.head > len(talk.lines) for c in page.conversations):
            return True
        if page.next is None:
            return False
        after = page.next


async def _hold(speakers: _Speakers, talk: Talk) -> None:
    first, *others = talk.who
    if talk.title is None:
        made = await speakers.call(first, api.OpenDirect(person_id=speakers.ids[others[0]]))
    else:
        members = [speakers.ids[who] for who in others]
        command = api.CreateGroup(title=talk.title, members=members)
        made = await speakers.call(first, command, key=f"demo-{talk.name}")
    seqs: list[int] = []
    for number, line in enumerate(talk.lines, 1):
        options = api.Options(
            reply_to=seqs[line.reply_to - 1] if line.reply_to else None,
            mentions=[speakers.ids[who] for who in line.mentions] or None,
            must_ack=line.must_ack,
        )
        sent = await speakers.call(
            line.who,
            api.Send(
                conversation_id=made.conversation_id,
                key=f"demo-{talk.name}-{number}",
                body=line.text,
                options=options,
            ),
        )
        seqs.append(sent.seq)
