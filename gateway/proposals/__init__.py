"""Decisions of the bank's staff that need a second person."""
