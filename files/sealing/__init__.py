"""Sealing: an enterprise may have its files encrypted with a key of its own (SM4), readable in ranges."""
