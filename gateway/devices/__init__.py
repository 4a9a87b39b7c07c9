"""Devices that have a key: bound with a second factor, listed, revoked."""
