"""Rows that the benchmarks need: one enterprise, its people with sessions and inboxes, conversations of 50.

Written straight by COPY: making 10,000 people through the actions would take longer than all measures. Person i of the
list is connection i of the load client and a member of conversation i // 50.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from core.actions import Principal
from core.clock import SystemClock
from core.ids import Ids
from core.settings import Settings
from core.tokens import AccessTokens
from hub.streams.rules import EMPTY_DIGEST

ROOM = 50
Row = tuple[object, ...]


class Population:
    """The people of a bench and what they know."""

    def __init__(self, settings: Settings, people: int) -> None:
        self._url, self._clock = "", SystemClock()
        ids = Ids(self._clock, 1023)
        self.enterprise = ids.next()
        self.people = [ids.next() for _ in range(people)]
        self.sessions = [ids.next() for _ in range(people)]
        self.inboxes = [ids.next() for _ in range(people)]
        self.rooms = [ids.next() for _ in range(-(-people // ROOM))]
        self._tokens = AccessTokens(settings, self._clock)

    async def seed(self, url: str) -> None:
        """Writes all of them into a migrated database."""
        self._url = url
        now = datetime.now(UTC)
        now_ms, later = int(now.timestamp() * 1000), now + timedelta(days=1)
        enterprise, numbers = self.enterprise, range(len(self.people))
        room_of = [self.rooms[i // ROOM] for i in numbers]
        sizes = [len(self.people[r * ROOM : (r + 1) * ROOM]) for r in range(len(self.rooms))]
        subscription = (enterprise, 1, 0, now_ms, 0, 0, 0)
        rooms: list[Row] = [
            (room, enterprise, "conversation", now_ms, 0, EMPTY_DIGEST, 1, size)
            for room, size in zip(self.rooms, sizes, strict=True)
        ]
        inboxes: list[Row] = [
            (box, enterprise, "inbox", now_ms, 0, EMPTY_DIGEST, 1, 1) for box in self.inboxes
        ]
        members: list[Row] = [(room_of[i], self.people[i], *subscription) for i in numbers]
        owners: list[Row] = [(self.inboxes[i], self.people[i], *subscription) for i in numbers]
        tables: dict[str, tuple[str, list[Row]]] = {
            "gateway_enterprises": (
                "enterprise_id full_name credit_code state created_at kind stage",
                [(enterprise, "测量", "91320000000000000X", "active", now, "enterprise", "contracted")],
            ),
            "gateway_people": (
                "person_id login_name full_name state created_at registered_at",
                [(p, f"bench-{i}", f"员工{i}", "active", now, now) for i, p in enumerate(self.people)],
            ),
            "gateway_memberships": (
                "enterprise_id person_id state joined_at",
                [(enterprise, p, "active", now) for p in self.people],
            ),
            "gateway_member_roles": (
                "enterprise_id person_id role",
                [(enterprise, p, "employee") for p in self.people],
            ),
            "gateway_sessions": (
                "session_id person_id enterprise_id device acr created_at used_at expires_at",
                [
                    (self.sessions[i], self.people[i], enterprise, f"bench-{i}", 1, now, now, later)
                    for i in numbers
                ],
            ),
            "hub_streams": (
                "stream_id enterprise_id kind epoch head digest members_version member_count",
                rooms + inboxes,
            ),
            "hub_subscriptions": (
                "stream_id person_id enterprise_id active floor_seq changed_ms delivered_seq read_seq sent_seq",
                members + owners,
            ),
            "hub_inboxes": (
                "enterprise_id person_id stream_id",
                [(enterprise, self.people[i], self.inboxes[i]) for i in numbers],
            ),
        }
        connection = await asyncpg.connect(self._url, ssl=False)
        try:
            for table, (columns, rows) in tables.items():
                await connection.copy_records_to_table(table, records=rows, columns=columns.split())
            await connection.execute("ANALYZE")
        finally:
            await connection.close()

    def write_tokens(self, path: Path, count: int) -> None:
        """A fresh access token a line, for the first `count` people."""
        expires_ms = self._clock.now_ms() + 86_400_000
        roles = frozenset({"employee"})
        lines = []
        for i in range(count):
            who = Principal(
                self.people[i], self.enterprise, roles, self.sessions[i], f"bench-{i}", expires_ms
            )
            lines.append(self._tokens.sign(who)[0])
        path.write_text("\n".join(lines) + "\n")

    async def write_streams(self, path: Path, count: int) -> None:
        """`conversation head` a line, for the first `count` people, with the heads of now."""
        heads = await self.heads()
        path.write_text(
            "".join(f"{self.rooms[i // ROOM]} {heads[self.rooms[i // ROOM]]}\n" for i in range(count))
        )

    async def heads(self) -> dict[int, int]:
        """Head of every conversation."""
        return {
            r["stream_id"]: r["head"] for r in await self._rows("SELECT stream_id, head FROM hub_streams")
        }

    async def broken_streams(self) -> int:
        """Conversations whose stored entries are not exactly 1 to head, each once: must be 0."""
        rows = await self._rows(
            "SELECT s.stream_id FROM hub_streams s LEFT JOIN (SELECT stream_id, count(*) AS n, max(seq) AS last, "
            "min(seq) AS first FROM hub_entries GROUP BY stream_id) e ON e.stream_id = s.stream_id "
            "WHERE s.head <> coalesce(e.n, 0) OR s.head <> coalesce(e.last, 0) OR coalesce(e.first, 1) <> 1"
        )
        return len(rows)

    async def checkpoint(self, url: str) -> None:
        """Writes out what earlier measures left, so that the next one does not pay for it. `url`: a superuser's."""
        connection = await asyncpg.connect(url, ssl=False)
        try:
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()

    async def _rows(self, query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._url, ssl=False)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query)
            return rows
        finally:
            await connection.close()
