"""Tables of the gateway, one module a feature."""

from gateway.schema import access, identity, sessions

__all__ = ["access", "identity", "sessions"]
