"""Each lint finds the planted fault and leaves the right way of doing it alone."""

from __future__ import annotations

import pytest

from house.lints import lint

FOUND = [
    ("HOUSE001", "im/messages/actions.py", 'x = sql("SELECT a FROM im_messages WHERE b = $1")'),
    ("HOUSE001", "gateway/service.py", 'x = "insert into gateway_people (a) values ($1)"'),
    ("HOUSE002", "core/x.py", "def pay(amount_fen: float) -> None: ..."),
    ("HOUSE002", "oa/x.py", "total = row.amount_fen / 2"),
    ("HOUSE002", "oa/x.py", "total = row['amount_fen'] * 0.5"),
    ("HOUSE002", "oa/x.py", "total = float(balance)"),
    ("HOUSE002", "finance/x.py", "rate = a / b"),
    ("HOUSE002", "finance/x.py", "class A:\n    x: float | None = None"),
    ("HOUSE003", "im/service.py", "from hub.node.rooms import Rooms"),
    ("HOUSE003", "im/service.py", "import hub.schema"),
    ("HOUSE003", "im/service.py", "from hub import schema"),
    ("HOUSE004", "im/messages/rules.py", "import asyncio"),
    ("HOUSE004", "hub/wire/frames.py", "from core.clock import Clock"),
    ("HOUSE004", "hub/wire/frames.py", "from core import db"),
    ("HOUSE005", "hub/node/x.py", "import time\nnow = time.time()"),
    ("HOUSE005", "im/x.py", "from datetime import datetime\nnow = datetime.now()"),
    ("HOUSE005", "im/x.py", "from time import monotonic"),
    ("HOUSE005", "gateway/x.py", "import secrets\nx = secrets.token_hex(8)"),
    ("HOUSE005", "gateway/x.py", "from random import random"),
]

CLEAN = [
    ("im/messages/store.py", 'x = sql("SELECT a FROM im_messages WHERE b = $1")'),
    ("core/outbox.py", 'x = sql("SELECT a FROM core_outbox WHERE b = $1")'),
    ("im/api.py", '"""Select one from the list."""\nx = "select a conversation"'),
    ("finance/x.py", "half_fen, rest_fen = divmod(amount_fen, 2)"),
    ("hub/x.py", "def wait(timeout_s: float) -> None: ..."),
    ("im/service.py", "from hub.api import Append\nfrom hub import api"),
    ("hub/node/x.py", "now = clock.now()\nlater = clock.monotonic_s()\nx = rng.random()"),
    ("hub/client/link.py", "import time\nnow = time.monotonic()"),
    ("hub/node/x.py", "import time\nnow = time.time()  # house: allow HOUSE005 - measures the machine"),
]


@pytest.mark.parametrize(("code", "path", "source"), FOUND)
def test_finds(code: str, path: str, source: str) -> None:
    assert code in [finding.code for finding in lint(path, source)]


@pytest.mark.parametrize(("path", "source"), CLEAN)
def test_leaves_alone(path: str, source: str) -> None:
    assert lint(path, source) == []


def test_an_exemption_needs_its_reason() -> None:
    assert lint("hub/x.py", "import time\nnow = time.time()  # house: allow HOUSE005")
    assert lint("hub/x.py", "import time\nnow = time.time()  # house: allow HOUSE001 - no")
