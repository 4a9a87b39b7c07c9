"""Randomness, injected: one seed replays everything that was drawn."""

from __future__ import annotations

import base64
import random
import secrets
from typing import Final, Protocol

TOKEN_BYTES: Final = 32


class Rng(Protocol):
    """Where every random draw of product code comes from."""

    def random(self) -> float:
        """A float in [0, 1)."""
        ...

    def randbytes(self, n: int) -> bytes:
        """`n` random bytes."""
        ...

    def mark(self, n: int) -> bytes:
        """`n` bytes that tell things apart and are no secret: whoever has seen many of them can tell the next ones."""
        ...

    def randint(self, a: int, b: int) -> int:
        """An integer in [a, b], both included."""
        ...

    def token(self) -> str:
        """256 bits as 43 URL-safe characters: for secrets that are compared, not counted."""
        ...


def _token(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class SystemRng:
    """The operating system's generator: fit for secrets."""

    __slots__ = ("_marks", "_source")

    def __init__(self) -> None:
        self._source = random.SystemRandom()
        self._marks = random.Random(
            secrets.token_bytes(TOKEN_BYTES)
        )  # asks the system once, not at every call

    def random(self) -> float:
        return self._source.random()

    def randbytes(self, n: int) -> bytes:
        return secrets.token_bytes(n)

    def mark(self, n: int) -> bytes:
        return self._marks.randbytes(n)

    def randint(self, a: int, b: int) -> int:
        return self._source.randint(a, b)

    def token(self) -> str:
        return _token(secrets.token_bytes(TOKEN_BYTES))


class SeededRng:
    """Repeats itself for a seed. For tests and the simulation; never for secrets."""

    __slots__ = ("_source",)

    def __init__(self, seed: int | str | bytes) -> None:
        self._source = random.Random(seed)

    def random(self) -> float:
        return self._source.random()

    def randbytes(self, n: int) -> bytes:
        return self._source.randbytes(n)

    def mark(self, n: int) -> bytes:
        return self._source.randbytes(n)

    def randint(self, a: int, b: int) -> int:
        return self._source.randint(a, b)

    def token(self) -> str:
        return _token(self._source.randbytes(TOKEN_BYTES))
