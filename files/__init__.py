"""Object storage: streaming uploads and downloads with constant memory, previews, retention.

Nothing is here yet. The store itself already runs: `core.embedded` starts it, settings name an external one.
"""
