"""Who is subscribed to a stream, and the inboxes; the entries that say so are written by `hub.api`."""
