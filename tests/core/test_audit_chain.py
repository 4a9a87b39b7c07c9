"""The audit is a chain that nobody changes unseen, and that nothing the program does breaks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import asyncpg
import pytest
import pytest_asyncio

from core.audit import exports, store
from core.audit.chainer import Chainer
from core.audit.rows import written
from core.clock import ManualClock
from core.crypto.keyring import Keyring
from core.crypto.ring import AUDIT, SEALS
from core.db import Sql, UniqueViolation
from core.errors import Conflict, Unavailable
from core.failpoints import FailpointError, arm, disarm
from core.runtime import Runtime
from house.verify import audit as verify_audit
from tests.core import toy
from tests.core.audit import TABLES, TAMPERINGS, Forger, chainer, verified
from tests.world import process, settings_for, somebody

_COUNT = Sql("SELECT COUNT(*) FROM core_audit WHERE seq > 0", None, "tests")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tables(database: str) -> str:
    connection = await asyncpg.connect(database, ssl=False)
    await connection.execute(toy.CREATE)
    await connection.close()
    return database


@pytest.fixture
async def superuser(tables: str, engines: object) -> AsyncIterator[asyncpg.Connection]:
    admin: str = engines.admin_url  # type: ignore[attr-defined]
    connection = await asyncpg.connect(admin.rpartition("/")[0] + "/" + tables.rpartition("/")[2], ssl=False)
    await connection.execute(f"TRUNCATE {', '.join(TABLES)}")
    yield connection
    await connection.close()


@pytest.fixture
async def here(tables: str, tmp_path: Path, superuser: object) -> AsyncIterator[Runtime]:
    async with process(settings_for(tables, tmp_path), [toy.Toy()], clock=ManualClock()) as runtime:
        yield runtime


async def _work(runtime: Runtime, calls: int, tenants: tuple[int, ...] = (1, 2)) -> None:
    for n in range(calls):
        who = somebody(person_id=50 + n % 3, enterprise_id=tenants[n % len(tenants)])
        runtime.clock.advance(7)  # type: ignore[attr-defined]
        if n % 5 == 4:
            with pytest.raises(Conflict):
                await runtime.calls.call(toy.Write(word=runtime.rng.token(), then="conflict"), principal=who)
        else:
            words = [runtime.rng.token() for _ in range(1 + n % 2)]
            await runtime.calls.call(toy.WriteTwice(words=words), principal=who)


async def _built(runtime: Runtime, seals: Path) -> None:
    """Two tenants, three seals each."""
    for _ in range(3):
        await _work(runtime, 10)
        await chainer(runtime, seals).run_once()


async def test_what_was_recorded_verifies(here: Runtime, tmp_path: Path) -> None:
    seals = tmp_path / "seals.jsonl"
    await _work(here, 20)
    found = await verified(here)
    assert (found.rows, found.faults) == (0, [])
    assert found.waiting == 20 + 16 + 8  # outer calls, nested ones: every row of an invocation is there
    assert await chainer(here, seals, batch=5).run_once() == found.waiting
    again = await verified(here, seals)
    assert (again.rows, again.waiting, again.exported, again.faults) == (found.waiting, 0, 2, [])
    assert again.seals == len(seals.read_text().splitlines())
    assert seals.stat().st_mode & 0o777 == 0o600
    assert await chainer(here, seals).run_once() == 0


async def test_one_tenants_broken_chain_stops_no_other_one(
    here: Runtime, superuser: asyncpg.Connection, tmp_path: Path
) -> None:
    """Whoever writes a nonsensical row or head into the database stops nobody else's audit."""
    seals = tmp_path / "seals.jsonl"
    await _built(here, seals)
    await superuser.execute("UPDATE core_audit_heads SET seal_no = 0 WHERE enterprise_id = 1")
    await _work(here, 4)
    with pytest.raises(UniqueViolation):
        await chainer(here, seals).run_once()
    found = await verified(here, seals)
    assert {fault.enterprise_id for fault in found.faults} == {1}
    assert await store.waiting(here.db, 2, 1) == []


async def test_a_row_of_a_key_that_nobody_knows_is_chained_and_reported(
    here: Runtime, superuser: asyncpg.Connection, tmp_path: Path
) -> None:
    seals = tmp_path / "seals.jsonl"
    await _built(here, seals)
    forger = Forger(superuser, here, Random(1), 1)
    await forger.insert_row((await forger.rows())[0], seq=0, digest=None, key_version=999)
    await _work(here, 4)
    await chainer(here, seals).run_once()
    assert await store.waiting(here.db, 1, 1) == []
    assert [fault.why for fault in (await verified(here)).faults] == ["the key audit.999 is not known here"]


@pytest.mark.requirement("D03")
@pytest.mark.timeout(300)
async def test_a_hundred_random_tamperings_are_all_found(
    here: Runtime, superuser: asyncpg.Connection, tmp_path: Path
) -> None:
    seals = tmp_path / "seals.jsonl"
    await _built(here, seals)
    for table in TABLES:
        await superuser.execute(
            f"DROP TABLE IF EXISTS kept_{table}; CREATE TABLE kept_{table} AS TABLE {table}"
        )
    assert (await verified(here, seals)).faults == []
    missed = []
    for seed in range(100):
        random = Random(seed)
        tamper = TAMPERINGS[seed % len(TAMPERINGS)]
        await tamper(Forger(superuser, here, random, random.choice((1, 2))))
        if not (await verified(here, seals)).faults:
            missed.append(f"{tamper.__name__} with seed {seed}")
        for table in TABLES:
            await superuser.execute(f"TRUNCATE {table}; INSERT INTO {table} SELECT * FROM kept_{table}")
    assert missed == []
    assert (await verified(here, seals)).faults == [], "what was put back holds"
    for table in TABLES:
        await superuser.execute(f"DROP TABLE kept_{table}")


async def test_a_fault_says_where(here: Runtime, superuser: asyncpg.Connection, tmp_path: Path) -> None:
    await _built(here, tmp_path / "seals")
    await superuser.execute("UPDATE core_audit SET outcome = 'ok' WHERE enterprise_id = 2 AND seq = 7")
    await superuser.execute("UPDATE core_audit SET person_id = 1 WHERE enterprise_id = 2 AND seq = 7")
    (fault,) = (await verified(here)).faults[:1]
    assert (fault.enterprise_id, fault.place) == (2, "row 7")


async def test_a_seal_that_the_bank_did_not_sign(
    here: Runtime, superuser: asyncpg.Connection, tmp_path: Path
) -> None:
    """Where nothing was exported and every row is genuine, the signature alone tells."""
    await _built(here, tmp_path / "seals.jsonl")
    await superuser.execute(
        "UPDATE core_audit_seals SET sealed_at = sealed_at - INTERVAL '1 day' WHERE enterprise_id = 1 AND seal_no = 3"
    )
    await Forger(superuser, here, Random(0), 1).mend()
    assert [fault.why for fault in (await verified(here)).faults] == ["the signature is not right"]


async def test_rows_get_their_place_when_they_are_committed(here: Runtime, tmp_path: Path) -> None:
    """A long transaction's rows are not lost because later ones were chained before."""
    seals, key = tmp_path / "seals.jsonl", here.keys.current(AUDIT)
    await _work(here, 4, (1,))
    early = replace((await store.waiting(here.db, 1, 1))[0], audit_id=1)
    async with here.db.transaction() as tx:
        await store.insert(tx, [written(early, key)])
        assert await chainer(here, seals).run_once() == 10
    assert await chainer(here, seals).run_once() == 1
    assert (await verified(here, seals)).faults == []


async def test_many_chainers_make_one_chain(here: Runtime, tmp_path: Path) -> None:
    seals = tmp_path / "seals.jsonl"
    chainers = [chainer(here, seals, batch=3) for _ in range(4)]
    stop = asyncio.Event()

    async def chain(one: Chainer) -> None:
        while not stop.is_set():
            await one.run_once()

    running = [asyncio.create_task(chain(one)) for one in chainers]
    await _work(here, 40)
    stop.set()
    await asyncio.gather(*running)
    await chainers[0].run_once()
    found = await verified(here, seals)
    assert (found.faults, found.waiting, found.rows) == ([], 0, 88)


async def test_a_chainer_that_dies_leaves_nothing_half_done(here: Runtime, tmp_path: Path) -> None:
    seals = tmp_path / "seals.jsonl"
    await _work(here, 10)
    arm("audit.before_commit", "error")
    try:
        with pytest.raises(FailpointError):
            await chainer(here, seals).run_once()
    finally:
        disarm()
    assert await here.db.fetchval(_COUNT) < 22
    await chainer(here, seals).run_once()
    assert (await verified(here, seals)).faults == []


async def test_seals_that_could_not_leave_leave_later(
    here: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seals = tmp_path / "seals.jsonl"
    await _work(here, 4, (1,))
    broken = chainer(here, seals)
    monkeypatch.setattr(os, "fsync", _no_space)
    with pytest.raises(OSError, match="no space"):
        await broken.run_once()
    monkeypatch.undo()
    seals.unlink()
    assert await chainer(here, seals).run_once() == 0
    assert [one.seal_no for one in exports.read(seals) if not isinstance(one, str)] == [1]
    assert await store.unexported(here.db) == []


@pytest.mark.requirement("D03")
async def test_exported_seals_that_are_gone_are_a_fault(
    here: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without them nobody can tell whether the end was cut off: that must not look like health."""
    settings = here.settings
    seals = exports.seals_file(settings)
    assert await verify_audit(settings, None) == 0, "nothing was recorded yet, and nothing was let out"
    await _built(here, seals)
    assert await verify_audit(settings, None) == 0
    whole = seals.read_bytes()
    here.clock.advance(61_000)  # type: ignore[attr-defined]
    lines = [line for line in whole.splitlines(keepends=True) if b'"enterprise_id":"2"' in line]
    assert len(lines) == 3

    seals.write_bytes(whole.replace(lines[-1], b""))
    found = await verified(here, seals)
    assert [(one.enterprise_id, one.place) for one in found.faults] == [(2, "seals 3 to 3")]
    seals.write_bytes(b"".join(one for one in whole.splitlines(keepends=True) if one not in lines))
    found = await verified(here, seals)
    assert [(one.enterprise_id, one.place) for one in found.faults] == [(2, "seals 1 to 3")]

    seals.unlink()
    capsys.readouterr()
    assert await verify_audit(settings, None) == 1
    said = capsys.readouterr().out
    assert "seals 1 to 3: they were exported" in said
    assert "verify audit --seals" in said
    seals.write_bytes(whole)
    assert await verify_audit(settings, None) == 0, "brought back"


async def test_a_copy_of_the_exports_may_be_a_minute_old(here: Runtime, tmp_path: Path) -> None:
    seals = tmp_path / "seals.jsonl"
    await _built(here, seals)
    seals.write_bytes(b"".join(seals.read_bytes().splitlines(keepends=True)[:-1]))
    assert (await verified(here, seals)).faults == []


async def test_a_line_that_was_torn_spoils_no_other_one(here: Runtime, tmp_path: Path) -> None:
    """The disk was full, or the power went, in the middle of a line: its seal leaves again, on a line of its own."""
    seals = tmp_path / "seals.jsonl"
    await _work(here, 4)
    await chainer(here, seals).run_once()
    whole = seals.read_bytes()
    seals.write_bytes(whole + whole.splitlines()[0][:100])
    await _work(here, 4)
    await chainer(here, seals).run_once()
    found = await verified(here, seals)
    assert (found.exported, found.faults) == (2, [])
    assert [type(one) for one in exports.read(seals)] == [exports.Exported] * 4


def _no_space(_: int) -> None:
    raise OSError("no space left on the device")


async def test_a_row_that_nobody_chains_is_reported(here: Runtime) -> None:
    await _work(here, 2)
    assert (await verified(here)).faults == []
    here.clock.advance(61_000)  # type: ignore[attr-defined]
    faults = (await verified(here)).faults
    assert faults
    assert all("has waited" in fault.why for fault in faults)


async def test_keys_of_rows_and_seals_turn(tables: str, tmp_path: Path, superuser: object) -> None:
    clock, seals = ManualClock(), tmp_path / "seals.jsonl"
    keys = Keyring(tmp_path / "ring.json", clock)
    settings = settings_for(tables, tmp_path, keys_file=keys.path)
    async with process(settings, [toy.Toy()], clock=clock) as here:
        await _work(here, 6)
        await chainer(here, seals).run_once()
        for purpose in (AUDIT, SEALS):
            here.keys.rotate(purpose, at_once=True)
        await _work(here, 6)
        await chainer(here, seals).run_once()
        assert (await verified(here, seals)).faults == []
        here.keys.retire(SEALS, 1)
        assert {fault.why for fault in (await verified(here, seals)).faults} == {
            "the key seals.1 is not known here"
        }


async def test_exports_that_contradict_each_other(here: Runtime, tmp_path: Path) -> None:
    seals = tmp_path / "seals.jsonl"
    await _built(here, seals)
    lines = seals.read_text().splitlines()
    last = [line for line in lines if '"enterprise_id":"2"' in line][-1]
    seals.write_text(
        "\n".join([*lines, last.replace('"last_seq":', '"last_seq":1'), '{"seal_no":1}', '{"event":"x"}'])
        + "\n"
    )
    whys = [str(fault) for fault in (await verified(here, seals)).faults]
    assert any("two different ones" in why for why in whys)
    assert any(f"line {len(lines) + 2} of the export" in why for why in whys)


async def test_a_machine_that_cannot_sign_now_keeps_the_rows_waiting(here: Runtime, tmp_path: Path) -> None:
    class Away:
        async def sign(self, key: object, message: bytes) -> bytes:
            raise Unavailable("the cryptographic machine does not answer")

        async def close(self) -> None: ...

    await _work(here, 4)
    broken = chainer(here, None)
    broken._provider = Away()
    with pytest.raises(Unavailable):
        await broken.run_once()
    assert (await verified(here)).rows == 0
    await chainer(here, None).run_once()
    assert (await verified(here)).faults == []
