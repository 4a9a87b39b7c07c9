"""Tables of the gateway, one module a feature."""

from gateway.schema import access, codes, identity, oauth, sessions

__all__ = ["access", "codes", "identity", "oauth", "sessions"]
