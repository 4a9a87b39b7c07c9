"""Joining an enterprise, one's place in it, leaving it."""
