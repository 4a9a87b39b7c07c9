"""Tables of the gateway, one module a feature."""

from gateway.schema import access, codes, devices, enterprises, identity, oauth, sessions, webhooks

__all__ = ["access", "codes", "devices", "enterprises", "identity", "oauth", "sessions", "webhooks"]
