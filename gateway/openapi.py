"""OpenAPI 3.1, made from the declared actions: every path, schema, refusal and permission comes from them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from core.actions import PUBLIC, Action, Permission
from core.errors import TREE

_TWICE: Final = re.compile(r"\b([a-z]+)__api__(?:[a-z]+__)?([A-Z][A-Za-z]*)")
_REF: Final = "#/components/schemas/{model}"

_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457 problem details. `code` is stable; `detail` is for people.",
    "required": ["type", "title", "status", "detail", "code", "temporary", "trace_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": [error.code for error in TREE]},
        "temporary": {"type": "boolean", "description": "the same request may succeed later"},
        "retry_ms": {"type": "integer", "description": "not before this many milliseconds"},
        "trace_id": {"type": "string", "description": "what to quote when asking for help"},
        "errors": {"type": "object"},
    },
}

_STATUSES: Final = {
    "400": "Not HTTP as it should be",
    "413": "The body is too large",
    "415": "The body is not application/json",
    **{str(error.http_status): (error.__doc__ or error.code).splitlines()[0] for error in TREE},
}


def document(actions: Iterable[Action[Any, Any]], *, version: str) -> dict[str, Any]:
    """The OpenAPI document of these actions, which are those that callers from outside may see."""
    declared = list(actions)
    inputs: list[tuple[tuple[str, str], Any, TypeAdapter[Any]]] = []
    for action in declared:
        inputs.append(((action.name, "in"), "validation", TypeAdapter(action.command)))
        inputs.append(((action.name, "out"), "serialization", action.command.result))
    schemas, shared = TypeAdapter.json_schemas([(k, m, a) for k, m, a in inputs], ref_template=_REF)
    by_key = {key: schema for (key, _), schema in schemas.items()}
    components = dict(shared.get("$defs", {}))
    by_key, components = _named((by_key, components))
    components["Problem"] = _PROBLEM
    _id_defaults(components)
    _id_defaults(by_key)
    return {
        "openapi": "3.1.0",
        "info": {"title": "bankhub", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"access_token": []}],
        "tags": [{"name": name} for name in sorted({_tag(action) for action in declared})],
        "paths": {
            f"/v1/{action.name}": {
                "post": _operation(action, by_key[(action.name, "in")], by_key[(action.name, "out")])
            }
            for action in declared
        },
        "components": {
            "schemas": components,
            "responses": {status: _refusal(what) for status, what in sorted(_STATUSES.items())},
            "securitySchemes": {"access_token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


_ABOUT: Final = (
    "Every action is a POST with a JSON object and answers JSON. Ids are decimal strings, times are milliseconds "
    "since 1970-01-01 UTC, bytes are base64. The same actions are called over the hub with CALL."
)


def _named(schemas: Any) -> Any:
    """Where two packages have a schema of one name, the package's name comes first: GatewayMember, ImMember."""
    text = orjson.dumps([[list(key), schema] for key, schema in schemas[0].items()] + [schemas[1]]).decode()
    text = _TWICE.sub(lambda match: match[1].title().replace("_", "") + match[2], text)
    *keyed, components = orjson.loads(text)
    return {tuple(key): schema for key, schema in keyed}, components


def _id_defaults(schema: Any) -> None:
    """Pydantic writes the default of an id as Python has it; in JSON an id is a string."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and isinstance(schema.get("default"), int):
            schema["default"] = str(schema["default"])
        for inner in schema.values():
            _id_defaults(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _id_defaults(inner)


def _tag(action: Action[Any, Any]) -> str:
    return action.name.rpartition(".")[0]


def _operation(action: Action[Any, Any], given: Any, gives: Any) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": "Deadline-Ms",
            "in": "header",
            "required": False,
            "description": "how long the caller waits; after it the answer is 504",
            "schema": {"type": "integer", "minimum": 1},
        }
    ]
    if action.idempotent:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "the same request under the same key has one effect and one answer",
                "schema": {"type": "string", "pattern": "^[0-9A-Za-z_-]{1,64}$"},
            }
        )
    operation: dict[str, Any] = {
        "operationId": action.name,
        "tags": [_tag(action)],
        "summary": action.summary or action.name,
        "description": (action.handler.__doc__ or "").strip(),
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": {"schema": given}}},
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": gives}}},
            **{status: {"$ref": f"#/components/responses/{status}"} for status in sorted(_STATUSES)},
        },
        **_needs(action),
        "x-bankhub-idempotent": action.idempotent,
        "x-bankhub-audited": action.audited,
    }
    if action.limit is not None:
        operation["x-bankhub-limit"] = {"burst": action.limit.burst, "per_s": action.limit.per_s}
    if action.step_up is not None:
        operation["x-bankhub-step-up"] = action.step_up
    if action.needs is PUBLIC:
        operation["security"] = []
    return operation


def _needs(action: Action[Any, Any]) -> dict[str, Any]:
    """Who may call, as the declaration says."""
    needs = action.needs
    if not isinstance(needs, Permission):
        return {"x-bankhub-needs": needs.kind}
    return {"x-bankhub-needs": needs.name, "x-bankhub-roles": sorted(needs.roles)}


def _refusal(what: str) -> dict[str, Any]:
    return {
        "description": what,
        "headers": {"Trace-Id": {"schema": {"type": "string"}}},
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
