"""A short fault run of files: every fault once or twice, real worker and engines. Long ones: `bench faults --files`."""

from __future__ import annotations

import pytest

from tests.fault.files_scenario import FAULTS, run

SEED = 20_240_601


@pytest.mark.timeout(300)
async def test_no_visible_file_is_incomplete_and_nothing_is_left_over() -> None:
    result, words = await run(SEED)
    assert not result.violations, "\n".join([*result.violations, *result.faults, words])
    assert sorted(result.faults) == sorted(FAULTS)  # each of them happened
    assert all(result.files.values()), result.files
