"""Chat in a terminal: what a person needs to talk, on the reference client. Start it with `./bankhub chat --as …`."""

from hub.chat.program import chat

__all__ = ["chat"]
