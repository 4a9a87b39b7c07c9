"""Events to machines of an enterprise's own: signed, repeated until they arrive, never to where they must not go."""
