"""One-time codes by short message."""
