"""What a process that holds thousands of sockets asks of the system."""

from __future__ import annotations

import resource


def raise_open_files() -> int:
    """Raises the soft limit of open files to the hard one; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
