"""What the gateway promises about identities, decided without I/O: codes, logins, belonging and leaving."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from core.access import Scope

# --- 统一社会信用代码 -------------------------------------------------------------------------------------------------

_CODE_DIGITS: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CODE: Final = re.compile(rf"[{_CODE_DIGITS}]{{17}}")


def credit_code_check_digit(first: str) -> str:
    """The 18th character of a unified social credit code from the first 17 (GB 32100-2015: base 31, weights 3^i).

    Raises `ValueError` where there are not 17 characters of its alphabet (no I, O, S, V, Z).
    """
    if not _CODE.fullmatch(first):
        raise ValueError("17 characters of the code's alphabet")
    total = sum(_CODE_DIGITS.index(c) * pow(3, i, 31) for i, c in enumerate(first))
    return _CODE_DIGITS[-total % 31]


def is_credit_code(code: str) -> bool:
    """Whether `code` is a well-formed unified social credit code with the right check digit."""
    return (
        len(code) == 18
        and bool(_CODE.fullmatch(code[:17]))
        and credit_code_check_digit(code[:17]) == code[17]
    )


# --- logins -----------------------------------------------------------------------------------------------------------


def normal_login(typed: str) -> str:
    """What somebody typed to log in, as it is stored: a phone number without decoration, or a name in lower case."""
    compact = re.sub(r"[\s()-]", "", typed)
    phone = re.fullmatch(r"(?:\+?86)?(1[3-9][0-9]{9})", compact)
    return phone[1] if phone else typed.strip().lower()


def masked_phone(phone: str | None) -> str | None:
    """The first three and last four digits: enough to recognise one's own."""
    return None if phone is None else f"{phone[:3]}****{phone[-4:]}"


def masked_name(name: str) -> str:
    """The first character: 张*."""
    return name[:1] + "*" * min(len(name) - 1, 3)


def masked_code(credit_code: str) -> str:
    """The first four and last four characters of a unified social credit code."""
    return f"{credit_code[:4]}**********{credit_code[-4:]}"


# --- memberships ------------------------------------------------------------------------------------------------------


def choose_enterprise(active: list[int], wanted: int | None, last: int | None) -> int | None:
    """The enterprise a session begins in: the wanted one (None: not a member there), else the last used, else the
    first, else 0: whoever belongs nowhere yet is in no enterprise."""
    if wanted is not None:
        return wanted if wanted in active else None
    if last is not None and last in active:
        return last
    return min(active, default=0)


def mixes(kind: str, others: Iterable[str]) -> bool:
    """Whether joining an enterprise of this kind would mix the bank with others: who is the bank's staff is nothing
    else, so that nobody decides about an enterprise of their own."""
    kinds = list(others)
    return bool(kinds) if kind == "bank" else "bank" in kinds


def may_give(giver: frozenset[str], roles: Iterable[str], top: str) -> bool:
    """Whether somebody may give or take these roles. Who manages members without being an administrator (`top`) may
    make employees only: else a role that manages members would be every role."""
    return top in giver or set(roles) <= {"employee"}


def may_place(scope: Scope, departments: Collection[int], *, new: bool) -> bool:
    """Whether who manages members as far as `scope` may put somebody into (or take out of) all these departments. A
    `new` member goes into one of theirs at least: else they would take in whom they do not manage."""
    if scope.everything:
        return True
    return scope.department_ids.issuperset(departments) and (bool(departments) or not new)


def weak_password(password: str, about: Iterable[str]) -> str | None:
    """Why a password is too easy to guess, if it is (NIST SP 800-63B 5.1.1.2): common, one's own data, no variety."""
    lowered = password.lower()
    if any(len(part) >= 4 and part.lower() in lowered for part in about):
        return "it contains the phone number or the name"
    if len(set(lowered)) < 5 or any(word in lowered for word in _COMMON) or lowered in _RUNS:
        return "it is easy to guess"
    return None


_COMMON: Final = (
    "password", "qwerty", "woaini", "iloveyou", "admin123", "12345678", "87654321", "11223344", "abc12345", "1q2w3e4r",
)  # fmt: skip
_RUNS: Final = frozenset({"0123456789", "9876543210", "abcdefghij", "1234512345"})


def may_leave(person_id: int, administrators: list[int]) -> bool:
    """An enterprise keeps at least one administrator: the last one cannot leave or be removed."""
    return administrators != [person_id]
