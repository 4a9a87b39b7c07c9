"""What a database can answer, as errors of ours; the driver's own error is always chained as the cause.

    BankhubError
    ├── Internal
    │   └── DatabaseError        a statement was refused: a fault of ours
    │       ├── UniqueViolation  a key is there already; often expected, so callers catch it
    │       ├── IntegrityViolation
    │       └── NotDurable       the start-up guard: this database may lose what it has acknowledged
    ├── Unavailable
    │   ├── Contention           serialization failure, deadlock, lock time-out: nothing was written, try again
    │   ├── ConnectionLost       no connection, or it broke before COMMIT was sent: nothing was written
    │   └── PoolTimeout          all connections stayed busy
    └── DeadlineExceeded
        ├── CommitUnknown        the connection broke while COMMIT was on its way: it may have happened
        └── StatementTimeout     the statement took too long; the transaction was rolled back

`Database.run` retries `Contention` and `ConnectionLost`. It never retries `CommitUnknown`: only a caller with an
idempotency key can decide that.
"""

from __future__ import annotations

from core.errors import DeadlineExceeded, Internal, Unavailable


class DatabaseError(Internal):
    """The database refused a statement."""

    def __init__(self, message: str | None = None, *, code: str = "", constraint: str = "") -> None:
        super().__init__(message)
        self.engine_code = code  # SQLSTATE of PostgreSQL or the number of DM8
        self.constraint = constraint  # lower case; "" when the engine does not say


class UniqueViolation(DatabaseError):
    """A row with this key is already there."""


class IntegrityViolation(DatabaseError):
    """A value breaks a constraint: null, check or reference."""


class NotDurable(DatabaseError):
    """The database is set to lose acknowledged writes."""


class Contention(Unavailable):
    """Too many want the same rows at the moment; nothing was written."""


class ConnectionLost(Unavailable):
    """The database cannot be reached at the moment; nothing was written."""


class PoolTimeout(Unavailable):
    """All database connections are busy."""


class CommitUnknown(DeadlineExceeded):
    """The connection broke during the commit; it may have happened, so ask again with the same key."""


class StatementTimeout(DeadlineExceeded):
    """A database statement took too long."""


RETRIED: tuple[type[Unavailable], ...] = (Contention, ConnectionLost)
"""After one of these the whole transaction may be run again: nothing of it was written."""
