"""Conversations, members, messages, receipts: what staff chat means, on top of the hub's streams."""
