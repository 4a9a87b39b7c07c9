"""From a phone that answered to banking, in any order that anybody may try: no step is skipped, none is repeated (T06).

Hypothesis calls the real actions as the applicant and two of the bank's staff, in the right order and in wrong ones. A
model that shares no code with the product says what each call must answer and where everything then stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from core.actions import Principal
from core.clock import ManualClock
from core.context import Source
from core.errors import BankhubError
from core.tokens import AccessTokens
from gateway import demo
from gateway.people import ActivePeople
from gateway.service import GatewayService
from im.service import ImService
from tests.gateway.conftest import World
from tests.gateway.sms import code_for, newest_code
from tests.gateway.test_joining import a_code
from tests.gateway.test_registration import GOOD
from tests.stepup import proven
from tests.world import process, settings_for

GOOD_ACCOUNT, BAD_ACCOUNT = "622202000000006688", "622202000000000000"
SIGN, AGREEMENT = "gateway.contracts.sign", {"agreement": "2026-11"}
LIFE_MS, STEP_MS = 300_000, 10_000  # of a challenge; what passes with every step

DECIDED: dict[tuple[str, str], str] = {
    ("bank_review", "pass"): "active",
    ("bank_review", "return"): "signing",
    ("bank_review", "reject"): "ended",
    ("active", "suspend"): "suspended",
    ("suspended", "resume"): "active",
    ("active", "end"): "ended",
    ("suspended", "end"): "ended",
}
ALONE = ("return", "reject")
ON_THE_WAY = [
    *["none"] * 5,
    "applied",
    *["signing"] * 3,
    *["bank_review"] * 2,
    *["active"] * 2,
    *["suspended"] * 2,
]
ON_THE_WAY.append(
    "active"
)  # register, apply, verify twice; the core says no, then yes; confirm, sign; two decide
PLACES = len(ON_THE_WAY)
Way = Callable[..., Any]

_phones = count(13_700_000_000)
staff_members = st.sampled_from(["sunqiang", "qianyu"])
indexes = st.integers(0, 3)


class Confirmation:
    """What the model knows of a challenge."""

    def __init__(self, challenge_id: str, until_ms: int) -> None:
        self.challenge_id, self.until_ms = challenge_id, until_ms
        self.proven = self.spent = False


def machine(world: World, run: Way) -> type[Any]:
    """The machine over this world; `run` runs a coroutine to its end."""

    class WayIn(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.phone = str(next(_phones))
            self.code = a_code()
            self.registered = False
            self.applications: list[list[Any]] = []  # [id, state, who proposed to verify it]
            self.enterprise = 0
            self.contract: str | None = None
            self.proposed: tuple[str, str] | None = None
            self.confirmations: list[Confirmation] = []
            code = run(code_for(world, self.phone))
            fields = {"phone": self.phone, "code": code, "device": "phone"}
            answer = run(world.client.call("gateway.registration.login", fields))
            self.guest = world.tokens.verify(answer.body["access_token"])

        # --- calls --------------------------------------------------------------------------------------------

        @property
        def me(self) -> Principal:
            """The applicant: in the enterprise, once there is one."""
            g = self.guest
            return Principal(g.person_id, self.enterprise, g.roles, g.session_id, g.device, 1 << 60)

        def call(
            self, who: Principal, name: str, step_up: str | None = None, /, **fields: Any
        ) -> tuple[int, Any]:
            """Status and answer."""
            try:
                answer = run(
                    world.runtime.calls.perform(
                        f"gateway.{name}",
                        fields,
                        principal=who,
                        source=Source("203.0.113.5", "http"),
                        step_up=None if step_up is None else int(step_up),
                    )
                )
            except BankhubError as error:
                return error.http_status, None
            return 200, answer.value

        def step(
            self, who: Principal, name: str, step_up: str | None = None, /, **fields: Any
        ) -> tuple[int, Any]:
            """The same a while after the step before."""
            world.clock.advance(STEP_MS)
            return self.call(who, name, step_up, **fields)

        def as_staff(self, login: str, name: str, /, **fields: Any) -> tuple[int, Any]:
            p = world.people[login]
            who = Principal(p.person_id, p.enterprise_id, frozenset(p.roles), 1, "desk", 1 << 60, acr=2)
            try:
                number = run(proven(world.runtime, who, f"gateway.{name}", fields))
            except BankhubError:
                number = None  # the call itself will say so
            return self.step(who, name, None if number is None else str(number), **fields)

        # --- steps --------------------------------------------------------------------------------------------

        @rule()
        def register(self) -> None:
            fields = {"name": "孙悦", "password": GOOD, "agreement": "2026-11"}
            status, _ = self.step(self.me, "registration.complete", **fields)
            assert status == (409 if self.registered else 200)
            self.registered = True

        @rule()
        def apply(self) -> None:
            status, answer = self.step(self.me, "enterprises.apply", name="溪山丝绸", credit_code=self.code)
            waiting = [one for one in self.applications if one[1] == "applied"]
            if not self.registered:
                assert status == 403
            elif self.enterprise or waiting:
                assert status == 409, "it is here, or an application for it is waiting"
            else:
                assert status == 200
                self.applications.append([str(answer["application_id"]), "applied", None])

        @rule(
            who=staff_members,
            which=indexes,
            decision=st.sampled_from(["verify", "verify", "return", "reject"]),
        )
        def decide_application(self, who: str, which: int, decision: str) -> None:
            if not self.applications:
                assert (
                    self.as_staff(who, "enterprises.decide", application_id="1", decision="verify")[0] == 404
                )
                return
            one = self.applications[which % len(self.applications)]
            fields = {"application_id": one[0], "decision": decision, "reason": "例行检查"}
            status, answer = self.as_staff(who, "enterprises.decide", **fields)
            if one[1] != "applied":
                assert status == 409
            elif decision != "verify":
                assert status == 200
                one[1] = {"return": "returned", "reject": "rejected"}[decision]
            elif one[2] is None:
                assert (status, answer["state"]) == (200, "applied")
                one[2] = who
            elif one[2] == who:
                assert status == 403, "nobody is the second person to themselves"
            elif self.enterprise:
                assert status == 409, "one code, one enterprise"
            else:
                assert (status, answer["state"]) == (200, "verified")
                one[1], self.enterprise = "verified", int(answer["enterprise_id"])

        @rule(good=st.booleans())
        def apply_for_contract(self, good: bool) -> None:
            account = GOOD_ACCOUNT if good else BAD_ACCOUNT
            status, _ = self.step(self.me, "contracts.apply", account_no=account, legal_person="孙悦")
            if status == 429:
                return  # the core banking system is not asked again and again
            if not self.enterprise:
                assert status == 403
            elif self.contract in (None, "applied", "ended"):
                assert status == 200
                self.contract = "signing" if good else "applied"
            else:
                assert status == 409

        @rule()
        def ask_to_confirm(self) -> None:
            if not self.enterprise:
                return
            status, answer = self.step(self.me, "stepup.begin", action=SIGN, fields=AGREEMENT)
            assert status == 200
            self.confirmations.append(
                Confirmation(str(answer["challenge_id"]), world.clock.now_ms() + LIFE_MS)
            )

        @rule(which=indexes)
        def confirm(self, which: int) -> None:
            if not self.confirmations:
                return
            one = self.confirmations[-1 - which % len(self.confirmations)]
            number, code = one.challenge_id, "000000"
            status, _ = self.step(self.me, "stepup.send_code", challenge_id=number)
            gone, expected = world.clock.now_ms() >= one.until_ms, 200
            if gone or one.proven:
                expected = 404 if gone else 409
            assert status == expected
            if expected == 200:
                code = run(newest_code(world, self.phone))
            if world.clock.now_ms() + STEP_MS >= one.until_ms:
                return  # too late to be right, and a wrong one would count as a guess
            if expected != 200:
                return
            status, _ = self.step(self.me, "stepup.prove", challenge_id=number, way="sms", code=code)
            assert status == 200
            one.proven = True

        @rule(which=st.none() | indexes)
        def sign(self, which: int | None) -> None:
            one = None
            if which is not None and self.confirmations:
                one = self.confirmations[-1 - which % len(self.confirmations)]
            number = None if one is None else one.challenge_id
            status, _ = self.step(self.me, "contracts.sign", number, **AGREEMENT)
            if not self.enterprise:
                assert status == 403
            elif one is None or not one.proven or one.spent or world.clock.now_ms() >= one.until_ms:
                assert status == 403, "not without having confirmed it, just now, for this once"
            elif self.contract != "signing":
                assert status == 409
            else:
                assert status == 200
                self.contract, one.spent = "bank_review", True

        @rule(who=staff_members, decision=st.sampled_from(sorted({decision for _, decision in DECIDED})))
        def decide_contract(self, who: str, decision: str) -> None:
            fields = {"enterprise_id": str(self.enterprise or 1), "decision": decision, "reason": "例行检查"}
            status, _ = self.as_staff(who, "contracts.decide", **fields)
            following = DECIDED.get((self.contract or "", decision))
            if self.contract is None:
                assert status == 404
            elif following is None:
                assert status == 409
            elif decision in ALONE or self.proposed == (decision, _other(who)):
                assert status == 200
                self.contract, self.proposed = following, None
            elif self.proposed == (decision, who):
                assert status == 403
            else:
                assert status == 200
                self.proposed = (decision, who)

        @rule()
        def wait(self) -> None:
            world.clock.advance(LIFE_MS // 2)

        @rule()
        def everything_that_is_not_due(self) -> None:
            """Wherever it stands, no other step opens; a confirmation does not help."""
            self.register()
            self.decide_application("sunqiang", 0, "verify")
            for decision in sorted({decision for _, decision in DECIDED}):
                if (self.contract, decision) not in DECIDED:
                    self.decide_contract("sunqiang", decision)
            if self.contract not in (None, "applied", "ended"):
                self.apply_for_contract(True)
            if self.contract != "signing":
                self.ask_to_confirm()
                self.confirm(0)
                self.sign(0)
            self.everything_stands_where_it_should()

        @rule()
        def sign_again_with_what_was_confirmed_before(self) -> None:
            """The bank gives it back: signing again is to be confirmed again."""
            if self.contract == "bank_review":
                self.decide_contract("qianyu", "return")
                self.sign(0)

        @rule()
        def forward(self) -> None:
            """Whatever comes next on the right way."""
            if not self.registered:
                self.register()
            elif not self.enterprise:
                waiting = [n for n, one in enumerate(self.applications) if one[1] == "applied"]
                if not waiting:
                    self.apply()
                else:
                    first = self.applications[waiting[0]][2]
                    self.decide_application(_other(first) if first else "sunqiang", waiting[0], "verify")
            elif self.contract in (None, "applied", "ended"):
                self.apply_for_contract(self.contract == "applied")  # the first time the core says no
            elif self.contract == "signing":
                if not self.confirmations or self.confirmations[-1].spent or self._late():
                    self.ask_to_confirm()
                elif not self.confirmations[-1].proven:
                    self.confirm(0)
                else:
                    self.sign(0)
            else:
                decision = {"bank_review": "pass", "active": "suspend", "suspended": "resume"}[self.contract]
                mine = self.proposed is not None and self.proposed[0] == decision
                who = _other(self.proposed[1]) if mine and self.proposed else "qianyu"
                self.decide_contract(who, decision)

        def _late(self) -> bool:
            return world.clock.now_ms() + 2 * STEP_MS >= self.confirmations[-1].until_ms

        @initialize(steps=st.integers(0, PLACES - 1))
        def begin_somewhere(self, steps: int) -> None:
            for _ in range(steps):
                self.forward()

        # --- what must always be true -------------------------------------------------------------------------

        @invariant()
        def everything_stands_where_it_should(self) -> None:
            status, me = self.call(self.me, "identity.me")
            assert status == 200
            member = "contracted" if self.contract == "active" else "member"
            assert me["level"] == (
                member if self.enterprise else "registered" if self.registered else "guest"
            )
            if self.enterprise:
                status, contract = self.call(self.me, "contracts.mine")
                assert (None if contract is None else contract["state"]) == self.contract

    return WayIn


def _other(login: str) -> str:
    return {"sunqiang": "qianyu", "qianyu": "sunqiang"}[login]


@pytest.fixture(scope="module")
def here(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Way]]:
    """A world, and what runs a coroutine in its loop: Hypothesis calls functions."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            yield runner.run(_world(stack, database, tmp_path_factory.mktemp("var"))), runner.run
        finally:
            runner.run(stack.aclose())


@pytest.mark.requirement("T04", "T06")
@pytest.mark.parametrize("place", range(PLACES))
def test_wherever_it_stands_nothing_opens_but_the_next_step(here: tuple[World, Way], place: int) -> None:
    one = machine(*here)()
    for _ in range(place):
        one.forward()
    assert (one.contract or "none") == ON_THE_WAY[place]
    one.sign_again_with_what_was_confirmed_before()
    one.everything_that_is_not_due()


@pytest.mark.requirement("T04", "T06")
def test_no_step_is_skipped_or_repeated_in_any_order(here: tuple[World, Way]) -> None:
    run_state_machine_as_test(
        machine(*here),
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


async def _world(stack: AsyncExitStack, database: str, var_dir: Path) -> World:
    import aiohttp

    from tests.gateway.conftest import Client

    clock = ManualClock(1_800_000_000_000)
    changes = {"code_gap_s": 0.0, "code_phone_per_day": 10_000, "code_person_per_day": 10_000}
    given = settings_for(database, var_dir, code_source_per_day=1_000_000, **changes)
    tokens = AccessTokens(given, clock)
    gateway = GatewayService(tokens)
    runtime = await stack.enter_async_context(
        process(given, [gateway, ImService(ActivePeople())], clock=clock)
    )
    session = await stack.enter_async_context(aiohttp.ClientSession())
    people = {person.login: person for person in reversed(await demo.seed(runtime))}
    client = Client(session, f"http://127.0.0.1:{gateway.port}")
    return World(runtime, gateway, tokens, people, client, clock)
