"""An example of a value for each JSON schema of ours: what the reference shows and a test sends through validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_BY_PATTERN: Final = {
    "^(0|[1-9][0-9]{0,18})$": "384000000000000001",
    "^[0-9A-Za-z_-]{1,64}$": "phone-1",
    "^1[3-9][0-9]{9}$": "13800000000",
    "^([a-z][a-z_]{2,30}|[1-9][0-9]{0,18})$": "employee",
    "^[A-Za-z][A-Za-z0-9._-]{2,31}$": "zhangwei",
    "^https?://[!-~]+$": "https://hooks.example.com/bankhub",
    "^[a-z][a-z0-9_.]*$": "gateway.member_added",
    "^[0-9A-Za-z_-]{43}$": "x" * 43,
    "^[a-zA-Z]{1,32}$": "login",
    "^[a-z][a-z0-9_.]{0,40}:[a-z][a-z0-9_]{0,20}$": "contacts:read",
    "^[0-9A-Za-z ._/-]{0,32}$": "Android 15",
    "^[a-z][a-z0-9_.]{0,31}$": "login",
}
_BY_NAME: dict[str, str] = {
    "name": "张伟", "full_name": "张伟", "title": "财务部", "password": "correct horse battery", "code": "123456",
    "credit_code": "91320000MA1WXYQ12A", "url": "https://hooks.example.com/bankhub", "login": "13800000000",
    "account_no": "622202000000006688",
}  # fmt: skip
_BY_NAME |= {
    "scopes": "contacts:read", "scope": "contacts:read", "reason": "客户来电要求", "legal_person": "张伟",
    "account_no": "622202000000006688", "agreement": "2026-11", "ticket": "T" * 43, "refresh_token": "R" * 43,
    "bridge_token": "B" * 43, "origin": "https://h5.example", "old_password": "battery horse correct",
    "action": "gateway.access.create_role",
}  # fmt: skip
_APP: Final = {"title": "考勤助手", "redirect_uris": ["https://app.example/cb"], "scopes": ["openid"]}
_MORE: Final[Mapping[str, Mapping[str, Any]]] = {
    "gateway.access.create_role": {"name": "门店店长"},
    "gateway.apps.register": _APP,
    "gateway.apps.register_own": _APP,
    "gateway.apps.install": {"scopes": ["openid"]},
    "gateway.devices.bind": {"name": "张伟的手机"},
    "gateway.devices.rename": {"name": "张伟的手机"},
    "gateway.departments.create": {"name": "财务部"},
    "gateway.enterprises.apply": {"name": "青山精密制造有限公司"},
    "gateway.invitations.create": {"roles": ["employee"]},
    "gateway.invitations.accept": {"code": "ABCD-EFGH-JKMN"},
    "gateway.invitations.look": {"code": "ABCD-EFGH-JKMN"},
    "gateway.people.find": {"login": "13800000000"},
    "files.uploads.check": {"name": "报销单.pdf"},
    "files.uploads.begin": {"name": "报销单.pdf"},
    "gateway.staff.add": {"roles": ["bank_operator"]},
    "gateway.staff.change": {"roles": ["bank_operator"]},
    "gateway.stepup.begin": {"fields": {"name": "门店店长", "grants": [{"permission": "contacts:read"}]}},
    "gateway.stepup.prove": {"way": "sms", "code": "123456"},
}
"""What an action's example says besides, or otherwise: what its schema alone cannot tell."""
_DEPTH: Final = 8


def example(action: str, schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """A request of this action that is not refused as malformed: what is required, and what goes with it."""
    return sample(schema, components) | _MORE.get(action, {})


def sample(schema: Mapping[str, Any], components: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """A value that `schema` allows, with what is required and nothing else; None where there is none to be told."""
    if "$ref" in schema:
        return sample(components[schema["$ref"].rpartition("/")[2]], components, name, depth + 1)
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            others = [one for one in schema[word] if one.get("type") != "null"]
            return sample(others[0], components, name, depth + 1) if others else None
    if depth > _DEPTH:
        return None
    kind = schema.get("type")
    if kind == "object":
        return _object(schema, components, depth)
    if kind == "array":
        count = max(1, schema.get("minItems", 0))
        return [sample(schema.get("items", {}), components, name, depth + 1) for _ in range(count)]
    if kind == "string":
        return _text(schema, name)
    if kind in ("integer", "number"):
        return max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
    return True if kind == "boolean" else None


def _object(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    names = schema.get("required", []) or []
    return {name: sample(properties.get(name, {}), components, name, depth + 1) for name in names}


def _text(schema: Mapping[str, Any], name: str) -> str:
    pattern = schema.get("pattern")
    if pattern is not None:
        return _BY_PATTERN.get(pattern, "x")
    text = "" if schema.get("contentEncoding") else _BY_NAME.get(name, "文字")
    least, most = schema.get("minLength", 0), schema.get("maxLength", 1 << 30)
    return str((text + "x" * max(0, least - len(text)))[:most])
