"""im as a service: its actions, who tells it who belongs to an enterprise, and who keeps the files of messages."""

from __future__ import annotations

from core.actions import actions_in
from core.service import Service
from hub.api import Carrier, Files
from im.conversations import actions as conversations
from im.messages import actions as messages
from im.messages.attachments import carried
from im.ports import People


class ImService(Service):
    """Works inside its callers' transactions only: nothing to start, nothing to stop."""

    name = "im"
    actions = actions_in(conversations, messages)

    def __init__(self, people: People, files: Files | None = None) -> None:
        self.people = people
        self.carrier = Carrier(files, carried)
