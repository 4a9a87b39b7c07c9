"""The sender: a job that one process at a time runs every moment. What is due goes out, side by side, then is judged.

A process that dies while it sends has written nothing, so its successor sends again: receivers know a message by its
webhook-id. At most `_EACH` deliveries of one webhook are under way at once, however many are due, and one that fails
waits ever longer: a slow receiver delays others by one time-out at most.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from core import outbox
from core.clock import to_ms
from core.db import Record, Transaction
from core.jobs import Every, Job, JobRun
from core.keys import cluster_secret, derive
from core.telemetry import Trace, counter, current_trace, new_trace
from gateway.api import WebhookDisabled
from gateway.webhooks import rules, store
from gateway.webhooks.egress import Egress

if TYPE_CHECKING:
    from core.runtime import Runtime

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 64
_EACH: Final = 4
_ROUNDS: Final = 20  # of one run: then others' jobs get a turn
_SENT: Final = counter("bankhub_webhook_attempts_total", "Attempts to deliver to webhooks", ("outcome",))


class Webhooks:
    """What the sender and the actions share."""

    def __init__(self, runtime: Runtime, egress: Egress | None = None) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._secret = cluster_secret(runtime.settings)
        self.egress = egress or Egress(runtime.settings)

    def job(self) -> Job:
        """The sender as a job."""
        return Job("gateway.webhooks.send", self.send_due, schedule=Every(self._settings.webhook_poll_s))

    def purge(self) -> Job:
        """Forgetting as a job."""

        async def forget(run: JobRun) -> None:
            keep = timedelta(seconds=self._settings.webhook_retention_s)
            await store.purge(run.db, run.clock.now(), keep)

        return Job("gateway.webhooks.purge", forget, schedule=Every(3600))

    def secret(self, webhook_id: int, number: int) -> bytes:
        """The `number`-th secret of a webhook: derived, so that none is kept anywhere."""
        return derive(self._secret, f"webhook {webhook_id} {number}")

    async def close(self) -> None:
        """Let go of connections."""
        await self.egress.close()

    async def send_due(self, run: JobRun) -> None:
        """Send what is due until nothing is."""
        for _ in range(_ROUNDS):
            batch = await store.due(run.db, run.clock.now(), _EACH, _AT_ONCE)
            if not batch:
                return
            answers = await asyncio.gather(*map(self._send, batch))
            for row, (status, error) in zip(batch, answers, strict=True):
                await run.transact(self._close, row, status, error)

    async def _send(self, row: Record) -> tuple[int | None, str | None]:
        now_ms = self._runtime.clock.now_ms()
        numbers = [row["secret_no"]]
        if row["previous_until"] is not None and to_ms(row["previous_until"]) > now_ms:
            numbers.append(row["secret_no"] - 1)
        body = row["body"].encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "bankhub-webhooks/1",
            **rules.signed_headers(
                [self.secret(row["webhook_id"], number) for number in numbers],
                f"msg_{row['delivery_id']}",
                now_ms // 1000,
                body,
            ),
        }
        return await self.egress.post(row["url"], body, headers)

    async def _close(self, tx: Transaction, row: Record, status: int | None, error: str | None) -> None:
        runtime, settings = self._runtime, self._settings
        now, enterprise_id, webhook_id = runtime.clock.now(), row["enterprise_id"], row["webhook_id"]
        since = row["failing_since"] or now
        verdict = rules.judge(
            status,
            row["attempts"] + 1,
            settings.webhook_delays_s,
            (now - since).total_seconds(),
            settings.webhook_disable_s,
            runtime.rng.random(),
        )
        _SENT.labels(verdict.outcome.name.lower()).inc()
        state = {
            rules.Outcome.DELIVERED: store.DELIVERED,
            rules.Outcome.AGAIN: store.WAITING,
            rules.Outcome.FAILED: store.FAILED,
        }[verdict.outcome]
        due = now + timedelta(seconds=verdict.pause_s)
        await store.close(tx, enterprise_id, row["delivery_id"], state, due, status, error)
        if verdict.outcome is rules.Outcome.DELIVERED:
            await store.works(tx, enterprise_id, webhook_id)
            return
        log.info(
            "webhook.failed", webhook_id=webhook_id, status=status, reason=error, attempt=row["attempts"] + 1
        )
        await store.fails(tx, enterprise_id, webhook_id, now)
        if verdict.disable is not None and await store.disable(
            tx, enterprise_id, webhook_id, verdict.disable
        ):
            log.warning("webhook.disabled", webhook_id=webhook_id, why=verdict.disable)
            told = WebhookDisabled.model_validate(
                {"enterprise_id": enterprise_id, "webhook_id": webhook_id, "why": verdict.disable}
            )
            await outbox.append(tx, [told], ids=runtime.ids, clock=runtime.clock, trace=_trace(runtime))


def _trace(runtime: Runtime) -> Trace:
    return current_trace() or new_trace(runtime.rng)
