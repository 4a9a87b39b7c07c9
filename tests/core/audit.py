"""What tests of the audit share: a chain of three tenants, and whoever has the database but not the keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import asyncpg

from core.audit import exports, store
from core.audit.chain import Seal, empty, link
from core.audit.chainer import Chainer
from core.audit.verify import Verified, verify
from core.crypto.provider import SoftwareProvider
from core.runtime import Runtime

TABLES = ("core_audit", "core_audit_seals", "core_audit_heads")


def chainer(runtime: Runtime, seals: Path | None, batch: int = 1_000) -> Chainer:
    """A chainer that runs when it is told to."""
    return Chainer(
        runtime.db,
        runtime.clock,
        runtime.rng,
        runtime.keys,
        SoftwareProvider(1),
        exports.Exports(seals),
        every_s=1.0,
        batch=batch,
    )


async def verified(runtime: Runtime, seals: Path | None = None) -> Verified:
    """What `bankhub verify audit` finds."""
    return await verify(runtime.db, runtime.clock, runtime.keys, exports.read(seals) if seals else None)


@dataclass
class Forger:
    """A superuser of the database. He knows the program, so he mends what can be mended without keys."""

    sql: asyncpg.Connection
    runtime: Runtime
    random: Random
    tenant: int

    async def mend(self) -> None:
        """Make digests, numbers of seals and the head fit what is there; signatures and MACs stay as they are."""
        db, head = self.runtime.db, empty(self.tenant)
        records = await self.sql.fetch(
            "SELECT audit_id FROM core_audit WHERE enterprise_id = $1 AND seq <> 0 ORDER BY seq, audit_id",
            self.tenant,
        )
        for seq, (audit_id,) in enumerate(records, 1):
            await self.sql.execute("UPDATE core_audit SET seq = $2 WHERE audit_id = $1", audit_id, seq)
        digests = [head.digest]
        for row, seq, _ in await store.chained(db, self.tenant, 0, 1 << 60, 10_000):
            digests.append(link(digests[-1], seq, row))
            await self.sql.execute(
                "UPDATE core_audit SET digest = $2 WHERE audit_id = $1", row.audit_id, digests[-1]
            )
        before: Seal | None = None
        for seal in await store.seals(db, self.tenant, 0, 10_000):
            last_seq = min(seal.last_seq, len(digests) - 1)
            await self.sql.execute(
                "DELETE FROM core_audit_seals WHERE enterprise_id = $1 AND seal_no = $2",
                self.tenant,
                seal.seal_no,
            )
            if last_seq <= (before.last_seq if before else 0):
                continue
            before = replace(
                seal,
                seal_no=(before.seal_no if before else 0) + 1,
                last_seq=last_seq,
                digest=digests[last_seq],
                previous=before.own_digest() if before else head.seal_digest,
            )
            await self.insert_seal(before)
        await self.sql.execute(
            "UPDATE core_audit_heads SET seal_no = $2, last_seq = $3, digest = $4, seal_digest = $5 "
            "WHERE enterprise_id = $1",
            self.tenant,
            *(
                (before.seal_no, before.last_seq, before.digest, before.own_digest())
                if before
                else (0, 0, head.digest, head.seal_digest)
            ),
        )

    async def insert_seal(self, seal: Seal) -> None:
        """Put a seal there."""
        await self.sql.execute(
            "INSERT INTO core_audit_seals VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            seal.enterprise_id,
            seal.seal_no,
            seal.last_seq,
            seal.digest,
            seal.previous,
            seal.sealed_at,
            seal.key_version,
            seal.signature,
        )

    async def rows(self) -> list[Any]:
        """The tenant's rows, chained, by number."""
        return list(
            await self.sql.fetch(
                "SELECT * FROM core_audit WHERE enterprise_id = $1 AND seq > 0 ORDER BY seq", self.tenant
            )
        )

    async def insert_row(self, like: Any, **changes: Any) -> None:
        """A row like another one."""
        values = dict(like) | {"audit_id": self.random.getrandbits(62)} | changes
        marks = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        await self.sql.execute(
            f"INSERT INTO core_audit ({', '.join(values)}) VALUES ({marks})", *values.values()
        )

    async def set(self, audit_id: int, **changes: Any) -> None:
        """Change columns of a row."""
        for column, value in changes.items():
            await self.sql.execute(
                f"UPDATE core_audit SET {column} = $2 WHERE audit_id = $1", audit_id, value
            )


def _other(value: Any, random: Random) -> Any:
    if value is None:
        return None
    if isinstance(value, bytes):
        at = random.randrange(len(value))
        return value[:at] + bytes((value[at] ^ 1 << random.randrange(8),)) + value[at + 1 :]
    if isinstance(value, int):
        return value + random.choice((-1, 1, 1000))
    if isinstance(value, str):
        return value + "x" if len(value) < 16 else "y" + value[1:]
    return value + timedelta(microseconds=random.choice((-1, 1, 10**9)))


async def edit(f: Forger) -> None:
    """Another value in a column of a row."""
    row = f.random.choice(await f.rows())
    column = f.random.choice(
        [name for name, value in row.items() if value is not None and name != "audit_id"]
    )
    await f.set(row["audit_id"], **{column: _other(row[column], f.random)})


async def edit_and_mend(f: Forger) -> None:
    """The same, and everything made to fit it that needs no key."""
    row = f.random.choice(await f.rows())
    column = f.random.choice(
        ["person_id", "outcome", "action", "happened_at", "trace_id", "mac", "session_id"]
    )
    await f.set(row["audit_id"], **{column: _other(row[column], f.random)})
    await f.mend()


async def delete(f: Forger) -> None:
    """Some rows in a row are gone."""
    rows = await f.rows()
    at = f.random.randrange(len(rows))
    for row in rows[at : at + f.random.choice((1, 1, 3))]:
        await f.sql.execute("DELETE FROM core_audit WHERE audit_id = $1", row["audit_id"])


async def delete_and_mend(f: Forger) -> None:
    """And those behind them moved up."""
    await delete(f)
    await f.mend()


async def insert_waiting(f: Forger) -> None:
    """A row that pretends to wait for the chainer; sometimes the chainer comes."""
    await f.insert_row(f.random.choice(await f.rows()), seq=0, digest=None)
    if f.random.random() < 0.5:
        await chainer(f.runtime, None).run_once()


async def insert_waiting_out_of_sight(f: Forger) -> None:
    """A row that no chainer will come to: its id stands before every id there is."""
    await f.insert_row(
        f.random.choice(await f.rows()), seq=0, digest=None, audit_id=-f.random.getrandbits(40)
    )


async def insert_chained(f: Forger) -> None:
    """A row inside the chain: at a number that is taken, behind the end, below the beginning."""
    rows = await f.rows()
    seq = f.random.choice([f.random.randint(1, len(rows)), len(rows) + 1, -1])
    await f.insert_row(f.random.choice(rows), seq=seq)


async def insert_and_mend(f: Forger) -> None:
    """And the others moved down."""
    await insert_chained(f)
    await f.mend()


async def reorder(f: Forger) -> None:
    """Two rows in each other's place."""
    one, two = f.random.sample(await f.rows(), 2)
    whole = f.random.random() < 0.5
    for row, other in ((one, two), (two, one)):
        await f.set(row["audit_id"], seq=other["seq"])
        if whole:
            await f.set(row["audit_id"], digest=other["digest"])


async def reorder_and_mend(f: Forger) -> None:
    """And digests that fit."""
    await reorder(f)
    await f.mend()


async def move_to_another_tenant(f: Forger) -> None:
    """A row of one tenant in the chain of another, or beside it."""
    row = f.random.choice(await f.rows())
    await f.set(row["audit_id"], enterprise_id=f.random.choice([t for t in (0, 1, 2, 77) if t != f.tenant]))


async def cut_rows(f: Forger) -> None:
    """The last rows are gone, with or without their seals."""
    rows = await f.rows()
    keep = f.random.randrange(len(rows))
    await f.sql.execute("DELETE FROM core_audit WHERE enterprise_id = $1 AND seq > $2", f.tenant, keep)
    if f.random.random() < 0.5:
        await f.sql.execute(
            "DELETE FROM core_audit_seals WHERE enterprise_id = $1 AND last_seq > $2", f.tenant, keep
        )


async def cut_and_mend(f: Forger) -> None:
    """The chain ends earlier, at a seal, as if it had never been longer: only what was exported tells."""
    seals = await store.seals(f.runtime.db, f.tenant, 0, 10_000)
    last = f.random.choice([None, *seals[:-1]])
    seq, number = (last.last_seq, last.seal_no) if last else (0, 0)
    await f.sql.execute("DELETE FROM core_audit WHERE enterprise_id = $1 AND seq > $2", f.tenant, seq)
    await f.sql.execute(
        "DELETE FROM core_audit_seals WHERE enterprise_id = $1 AND seal_no > $2", f.tenant, number
    )
    await f.mend()
    if last is None and f.random.random() < 0.5:
        await f.sql.execute("DELETE FROM core_audit_heads WHERE enterprise_id = $1", f.tenant)


async def cut_and_go_on(f: Forger) -> None:
    """And the program made the chain longer again."""
    rows = await f.rows()
    await cut_and_mend(f)
    await f.insert_row(rows[-1], seq=0, digest=None)
    await chainer(f.runtime, None).run_once()


async def truncate(f: Forger) -> None:
    """A whole table is gone."""
    await f.sql.execute(f"TRUNCATE {f.random.choice(TABLES)}")


async def change_a_seal(f: Forger) -> None:
    """Another value in a seal."""
    seal = f.random.choice(await store.seals(f.runtime.db, f.tenant, 0, 10_000))
    column = f.random.choice(
        ["last_seq", "digest", "previous", "sealed_at", "key_version", "signature", "seal_no"]
    )
    value = _other(getattr(seal, column), f.random) if column != "seal_no" else 10_000
    await f.sql.execute(
        f"UPDATE core_audit_seals SET {column} = $3 WHERE enterprise_id = $1 AND seal_no = $2",
        f.tenant,
        seal.seal_no,
        value,
    )


async def take_out_a_seal(f: Forger) -> None:
    """A seal is gone; sometimes the others close ranks."""
    seal = f.random.choice(await store.seals(f.runtime.db, f.tenant, 0, 10_000))
    await f.sql.execute(
        "DELETE FROM core_audit_seals WHERE enterprise_id = $1 AND seal_no = $2", f.tenant, seal.seal_no
    )
    if f.random.random() < 0.5:
        await f.mend()


async def change_the_head(f: Forger) -> None:
    """The chain goes on somewhere else."""
    change = f.random.choice(["seal_no = seal_no + 1", "last_seq = last_seq - 1", "digest = seal_digest"])
    await f.sql.execute(f"UPDATE core_audit_heads SET {change} WHERE enterprise_id = $1", f.tenant)


TAMPERINGS: tuple[Callable[[Forger], Awaitable[None]], ...] = (
    edit,
    edit_and_mend,
    delete,
    delete_and_mend,
    insert_waiting,
    insert_waiting_out_of_sight,
    insert_chained,
    insert_and_mend,
    reorder,
    reorder_and_mend,
    move_to_another_tenant,
    cut_rows,
    cut_and_mend,
    cut_and_go_on,
    truncate,
    change_a_seal,
    take_out_a_seal,
    change_the_head,
)
