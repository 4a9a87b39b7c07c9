"""The reference client of the hub: `Client`. It shares no code with the hub's codec, so the two check each other."""

from hub.client.client import Client, Closed, Heard, State, Token
from hub.client.cursors import CursorStore, FileCursors, Saved
from hub.client.feed import INBOX, Item
from hub.client.link import Disconnected
from hub.client.rules import Notice
from hub.client.wire import Entry, HubError, Marks, Page, Presence, Sent, Signal, StreamInfo, Welcome

__all__ = [
    "INBOX", "Client", "Closed", "CursorStore", "Disconnected", "Entry", "FileCursors", "Heard", "HubError", "Item",
    "Marks", "Notice", "Page", "Presence", "Saved", "Sent", "Signal", "State", "StreamInfo", "Token", "Welcome",
]  # fmt: skip
