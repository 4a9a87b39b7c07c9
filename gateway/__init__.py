"""HTTP edge and unified authorization: identity, sessions, tokens, limits, OpenAPI, health and metrics."""
