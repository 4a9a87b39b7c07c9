"""Tables of the gateway, one module a feature."""

from gateway.schema import access, codes, enterprises, identity, oauth, sessions

__all__ = ["access", "codes", "enterprises", "identity", "oauth", "sessions"]
