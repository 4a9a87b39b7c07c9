"""A demonstration: two small enterprises and the bank's staff, who can log in.

For laptops and tests, never for production.

`seed` may run at every start: what is there stays. The passwords are random, made once, and kept in ``var/demo.json``
(mode 0600) so that `bankhub up` can print them again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from core.db import Transaction
from core.runtime import Runtime
from gateway.contracts import store as contracts
from gateway.identity import store
from gateway.identity.rules import credit_code_check_digit
from gateway.sessions.passwords import Passwords


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Somebody to log in as."""

    person_id: int
    enterprise_id: int
    enterprise: str
    login: str
    name: str
    title: str
    roles: tuple[str, ...]
    password: str
    phone: str


_STAFF: Final = "employee"

ENTERPRISES: Final = (
    ("青山精密制造有限公司", "91410105MA0QH0001"),
    ("云岭茶业有限公司", "91410105MA0YL0002"),
)
"""Name and the first 17 characters of the unified social credit code."""
BANK: Final = ("青山农村商业银行", "91410105MA0BK0003")
PLACES: Final = (*ENTERPRISES, BANK)

PEOPLE: Final = (
    # login, name, phone, {enterprise: (title, roles)}
    ("zhangwei", "张伟", "13800000001", {0: ("总经理", (_STAFF, "boss"))}),
    ("wangfang", "王芳", "13800000002", {0: ("行政主管", (_STAFF, "administrator"))}),
    ("liuyang", "刘洋", "13800000003", {0: ("出纳", (_STAFF, "finance_maker"))}),
    (
        "lina",
        "李娜",
        "13800000004",
        {0: ("财务主管", (_STAFF, "finance_reviewer")), 1: ("兼职会计", (_STAFF, "finance_maker"))},
    ),
    ("chenjing", "陈静", "13800000005", {0: ("采购专员", (_STAFF,))}),
    ("yangmin", "杨敏", "13800000006", {0: ("车间主任", (_STAFF,))}),
    ("zhaolei", "赵磊", "13800000007", {0: ("质检员", (_STAFF,))}),
    ("huangting", "黄婷", "13800000008", {0: ("销售经理", (_STAFF,))}),
    ("zhoutao", "周涛", "13800000011", {1: ("总经理", (_STAFF, "boss", "administrator"))}),
    ("wuxia", "吴霞", "13800000012", {1: ("店长", (_STAFF,))}),
    ("sunqiang", "孙强", "13800000021", {2: ("运营经办", ("bank_operator",))}),
    ("qianyu", "钱钰", "13800000022", {2: ("运营复核", ("bank_reviewer",))}),
    ("helei", "何磊", "13800000023", {2: ("审计", ("bank_auditor",))}),
    ("zhengjie", "郑洁", "13800000024", {2: ("客服", ("bank_support",))}),
    ("fengbo", "冯波", "13800000025", {2: ("系统管理", ("bank_administrator",))}),
    ("xuting", "徐婷", "13800000026", {2: ("系统管理", ("bank_administrator",))}),  # it takes two
)


async def seed(runtime: Runtime, passwords: Passwords | None = None) -> list[DemoPerson]:
    """Make what is missing of the demonstration; everybody in it, with passwords, in a fixed order.

    Two processes that seed at once get in each other's way with `UniqueViolation`: let one of them do it.
    """
    path = runtime.settings.var_dir / "demo.json"
    kept = _read(path)
    words = {login: kept.get(login) or runtime.rng.token()[:12] for login, *_ in PEOPLE}
    if words != kept:
        _write(path, words)
    hasher = passwords or Passwords(runtime.settings)
    try:
        hashes = {}
        for login, *_ in PEOPLE:
            person = await store.person_by_login(runtime.db, runtime.columns, login)
            stored = None if person is None else person["password_hash"]
            if stored is None or not await hasher.verify(stored, words[login]):
                hashes[login] = await hasher.hash(words[login])
    finally:
        if passwords is None:
            hasher.close()
    return await runtime.db.run(_seed, runtime, words, hashes)


async def _seed(
    tx: Transaction, runtime: Runtime, words: dict[str, str], hashes: dict[str, str]
) -> list[DemoPerson]:
    now, ids = runtime.clock.now(), runtime.ids
    enterprise_ids = []
    for name, code in PLACES:
        credit_code = code + credit_code_check_digit(code)
        enterprise_id = await store.enterprise_by_code(tx, credit_code)
        if enterprise_id is None:
            enterprise_id = ids.next()
            bank = name == BANK[0]
            await store.insert_enterprise(
                tx,
                enterprise_id,
                name=name,
                credit_code=credit_code,
                now=now,
                kind="bank" if bank else "enterprise",
                stage="verified" if bank else "contracted",
            )
            if not bank:
                await contracts.begin(tx, enterprise_id, "active", account_tail="6688", by=0, now=now)
        enterprise_ids.append(enterprise_id)
    everybody = []
    for login, name, phone, places in PEOPLE:
        person = await store.person_by_login(tx, runtime.columns, login)
        person_id = ids.next() if person is None else person["person_id"]
        if person is None:
            await store.insert_person(
                tx,
                runtime.columns,
                person_id,
                phone=phone,
                login_name=login,
                name=name,
                password_hash=hashes[login],
                now=now,
            )
        elif login in hashes:
            await store.set_password(tx, person_id, hashes[login], before=person["password_hash"])
        for place, (title, roles) in places.items():
            enterprise_id = enterprise_ids[place]
            # whoever was made to leave stays away: the demonstration does not undo what people did in it
            if await store.membership_state(tx, enterprise_id, person_id) is None:
                await store.join(tx, enterprise_id, person_id, title=title, roles=roles, now=now)
            everybody.append(
                DemoPerson(
                    person_id, enterprise_id, PLACES[place][0], login, name, title, roles, words[login], phone
                )
            )
    return everybody


def _read(path: Path) -> dict[str, str]:
    try:
        kept = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return {str(login): str(word) for login, word in kept.items()} if isinstance(kept, dict) else {}


def _write(path: Path, words: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as out:
        out.write(orjson.dumps(words, option=orjson.OPT_INDENT_2))
    made.replace(path)
