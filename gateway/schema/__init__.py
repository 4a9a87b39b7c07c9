"""Tables of the gateway, one module a feature."""

from gateway.schema import (
    access,
    codes,
    devices,
    enterprises,
    factors,
    identity,
    oauth,
    privacy,
    sessions,
    webhooks,
)

__all__ = [
    "access",
    "codes",
    "devices",
    "enterprises",
    "factors",
    "identity",
    "oauth",
    "privacy",
    "sessions",
    "webhooks",
]
