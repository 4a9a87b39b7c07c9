"""Files: streamed to an object store, looked into, encrypted, referred to, cleaned up. See docs/files.md.

The store itself is started by `core.embedded`, or settings name an external one.
"""
