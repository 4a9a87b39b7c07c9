"""Inviting people by a link or a code."""
