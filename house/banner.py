"""What `up` prints when it is up: where things are, and who may log in to the demonstration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ENGINES = {"postgres": "PostgreSQL", "valkey": "Valkey", "s3": "SeaweedFS"}


def banner(note: Mapping[str, Any], demo: Mapping[str, Any] | None, took_s: float) -> str:
    """The text; `note` is the supervisor's, `demo` the content of var/demo.json."""
    embedded = ", ".join(name for key, name in _ENGINES.items() if key in note["engines"])
    count = note["workers"]
    workers = f"{count} worker{'s' if count != 1 else ''}"
    engines = f"embedded {embedded}" if embedded else "external engines"
    lines = [
        f"bankhub is up after {took_s:.1f} s ({workers}; {engines})",
        "",
        f"  gateway  {note['gateway_url']}    OpenAPI at /openapi.json, metrics at /metrics",
        f"  hub      {note['hub_url']}",
    ]
    logins = list(demo.get("logins", ())) if demo else []
    if demo and logins:
        lines += [
            "",
            f"  {demo.get('enterprise', '')} (demonstration; password of all: {demo.get('password', '')})",
            "",
        ]
        wide = max(len(str(person["login"])) for person in logins)
        lines += [
            f"    {person['login']:<{wide}}  {person['name']}  {', '.join(person['roles'])}"
            for person in logins
        ]
        first, second = logins[0]["login"], logins[-1]["login"]
        lines += ["", "  Talk, in two other terminals:"]
        lines += [f"    ./bankhub chat --as {first}", f"    ./bankhub chat --as {second}"]
    lines += [
        "",
        f"  State is kept in {note['var']}, logs in its log/. Stop with Ctrl-C or ./bankhub down.",
        "",
    ]
    return "\n".join(lines)
