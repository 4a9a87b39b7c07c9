"""im as a service: its actions, and who tells it who belongs to an enterprise."""

from __future__ import annotations

from core.actions import actions_in
from core.service import Service
from im.conversations import actions as conversations
from im.messages import actions as messages
from im.ports import People


class ImService(Service):
    """Works inside its callers' transactions only: nothing to start, nothing to stop."""

    name = "im"
    actions = actions_in(conversations, messages)

    def __init__(self, people: People) -> None:
        self.people = people
