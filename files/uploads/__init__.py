"""Uploads: how bytes arrive, in one request or in parts, and what is decided about them on the way."""
