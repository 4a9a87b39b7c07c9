"""What `up` prints when it is up: where things are, and who may log in to the demonstration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ENGINES = {"postgres": "PostgreSQL", "valkey": "Valkey", "s3": "SeaweedFS"}


def banner(
    note: Mapping[str, Any],
    demo: Sequence[Mapping[str, Any]] | None,
    took_s: float,
    client_id: str | None = None,
) -> str:
    """The text; `note` is the supervisor's, `demo` the demonstration's logins, `client_id` that of its app."""
    embedded = ", ".join(name for key, name in _ENGINES.items() if key in note["engines"])
    workers = f"{note['workers']} worker{'s' if note['workers'] != 1 else ''}"
    engines = f"embedded {embedded}" if embedded else "external engines"
    lines = [
        f"bankhub is up after {took_s:.1f} s ({workers}; {engines})",
        "",
        f"  gateway  {note['gateway_url']}    /reference, /openapi.json, /metrics, /readyz",
        f"  hub      {note['hub_url']}",
        f"  files    {note['gateway_url']}/files/upload    how: docs/files.md",
    ]
    if demo:
        lines += _demonstration(demo)
        if client_id is not None:
            lines += [
                "",
                f"  Apps of others, by OAuth (docs/oauth.md): there is one with client_id {client_id}.",
            ]
    lines += ["", f"  State is in {note['var']}, logs are in its log/. Ctrl-C or ./bankhub down stops.", ""]
    return "\n".join(lines)


def _demonstration(demo: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for enterprise in dict.fromkeys(person["enterprise"] for person in demo):
        people = [person for person in demo if person["enterprise"] == enterprise]
        lines += ["", f"  {enterprise}:", ""]
        for person in people:
            roles = ", ".join(role for role in person["roles"] if role != "employee")
            name, title = _padded(person["name"], 8), _padded(person["title"], 12)
            lines.append(f"    {person['login']:<12}{person['password']:<16}{name}{title}{roles}".rstrip())
        if any(role.startswith("bank_") for person in people for role in person["roles"]):
            first = people[0]["phone"]
            lines += [
                "",
                f"  The bank's staff need a second factor: a code to their phone ({first} and on), printed here.",
            ]
    lines += [
        "",
        "  Anybody else is a guest by a code to a phone: POST /v1/gateway.codes.send, gateway.registration.login.",
    ]
    chatting = [person for person in demo if person["enterprise"] == demo[0]["enterprise"]]
    return [*lines, "", "  Talk, from two other terminals:", "", *_chats(chatting)]


def _chats(people: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"    ./bankhub chat --as {person['login']}" for person in people[:2]]


def _padded(text: str, columns: int) -> str:
    """Filled to a width in a terminal, where a Chinese character takes two columns."""
    return text + " " * max(1, columns - sum(2 if ord(char) > 0x2E7F else 1 for char in text))
