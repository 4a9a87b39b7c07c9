"""Messages: what may be said, taken back, and who has read it."""
