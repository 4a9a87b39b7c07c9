"""Durable streams: pure rules, their SQL, and the group commit that appends to them."""
