"""The hub's wire protocol without I/O: frames, their two encodings, WebSocket framing, close codes and limits."""
