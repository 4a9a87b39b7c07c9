"""A short fault run: every fault once, real workers and engines. Long ones: `./bankhub bench faults --minutes N`."""

from __future__ import annotations

import pytest

from tests.fault.checker import report
from tests.fault.scenario import FAULTS, run

SEED = 20_240_101


@pytest.mark.timeout(240)
async def test_nothing_is_lost_doubled_mixed_up_or_made_up() -> None:
    result, stage = await run(SEED, FAULTS, pause_s=(0.1, 0.8))
    assert not result.violations, report(stage.history, result.violations) + "\n" + "\n".join(result.faults)
    assert len(result.faults) == len(FAULTS)
    assert result.acknowledged > 50
    assert result.deliveries > 5 * result.acknowledged / 2
    assert result.connections > len(stage.members)
