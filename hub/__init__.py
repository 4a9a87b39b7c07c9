"""WebSocket sessions, durable streams, delivery, presence and the bus between nodes.

`wire/` is the protocol without I/O, `streams/` the ordered log in the database and the group commit that writes it,
`server/` the socket shell, `node/` what one worker knows and does. Other packages import `hub.api` only.
"""
