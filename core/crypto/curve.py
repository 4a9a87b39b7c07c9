"""The public key of a private one in plain Python, for the engine that cannot tell it.

It takes milliseconds and its time depends on the key: for reading a key file at start, never for signing.
"""

from __future__ import annotations

from core.crypto.encodings import A, G, P, check_scalar

Point = tuple[int, int] | None  # None: the point at infinity


def public_point(private: bytes) -> bytes:
    """04, x, y of d·G. Raises `Malformed` for a number that is no private key."""
    base: Point = (int.from_bytes(G[:32]), int.from_bytes(G[32:]))
    product: Point = None
    for bit in f"{int.from_bytes(check_scalar(private)):b}":
        product = _add(product, product)
        if bit == "1":
            product = _add(product, base)
    assert product is not None, "the order of G is larger than every private key"
    return b"\x04" + product[0].to_bytes(32) + product[1].to_bytes(32)


def _add(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return other if one is None else one
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    slope = (3 * x1 * x1 + A) * pow(2 * y1, -1, P) if one == other else (y2 - y1) * pow(x2 - x1, -1, P)
    x3 = (slope * slope - x1 - x2) % P
    return x3, (slope * (x1 - x3) - y1) % P
