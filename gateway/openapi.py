"""OpenAPI 3.1, made from the declared actions: every path, schema, refusal and permission comes from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from inspect import cleandoc
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from core.actions import PUBLIC, Action, Permission
from core.errors import TREE
from gateway.samples import example

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
        "retry_ms": {"type": "integer", "minimum": 0, "description": "not before this many milliseconds"},
        "trace_id": {"type": "string", "description": "what to quote when asking for help"},
        "errors": {"type": "object"},
    },
}

_STATUSES: Final = {
    "400": "The request or its body is not HTTP or JSON as it should be",
    "405": "Not with this method",
    "408": "The body came too slowly",
    "413": "The body is too large",
    "415": "The body is not application/json, or compressed",
    "421": "This host is not served here",
    "431": "The head of the request is too large",
    **{str(error.http_status): (error.__doc__ or error.code).splitlines()[0] for error in TREE},
}


def document(
    actions: Iterable[Action[Any, Any]],
    *,
    version: str,
    rate_scale: float = 1.0,
    others: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The OpenAPI document of these actions, which are those that callers from outside may see.

    `rate_scale`: the setting `rate_actions_scale` of the process that tells it. `others`: path items of what is served
    besides (`gateway.paths`).
    """
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
        "security": [{"access_token": []}, {"dpop": []}],
        "tags": [
            {"name": name}
            for name in sorted(
                {_tag(action) for action in declared}
                | {
                    one["tags"][0]
                    for item in (others or {}).values()
                    for one in item.values()
                    if "tags" in one
                }
            )
        ],
        "paths": {
            f"/v1/{action.name}": {
                "post": _operation(
                    action, by_key[(action.name, "in")], by_key[(action.name, "out")], components, rate_scale
                )
            }
            for action in declared
        }
        | dict(others or {}),
        "components": {
            "schemas": components,
            "responses": {
                status: _refusal(int(status), what, components["Problem"])
                for status, what in sorted(_STATUSES.items())
            },
            "headers": _HEADERS,
            "securitySchemes": _security(declared),
        },
    }


_ABOUT: Final = (
    "Every action is a POST with a JSON object and answers JSON. Ids are decimal strings, times are milliseconds "
    "since 1970-01-01 UTC, bytes are base64. The same actions are called over the hub with CALL. A write that has no "
    "Idempotency-Key among its parameters refuses one: 422 with errors.code idempotency_not_supported."
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


def _operation(
    action: Action[Any, Any], given: Any, gives: Any, components: dict[str, Any], rate_scale: float
) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": "Deadline-Ms",
            "in": "header",
            "required": False,
            "description": "how long the caller waits; after it the answer is 504",
            "schema": {"type": "integer", "minimum": 1, "maximum": 9_999_999},
        }
    ]
    if action.idempotent:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "the same request under the same key has one effect and one answer; "
                "another request under it is refused with 422",
                "schema": {"type": "string", "pattern": "^[0-9A-Za-z_-]{1,64}$"},
            }
        )
    if action.step_up is not None:
        parameters.append(
            {
                "name": "Step-Up",
                "in": "header",
                "required": False,
                "description": "the challenge that was proved for exactly this request: gateway.stepup.begin, "
                "then gateway.stepup.prove; without it 403 with errors.code step_up_required"
                + ("" if action.step_up_when is None else " (for some requests only)"),
                "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"},
            }
        )
    operation: dict[str, Any] = {
        "operationId": action.name,
        "tags": [_tag(action)],
        "summary": (action.summary or action.name).partition(". ")[0].rstrip("."),
        "description": cleandoc(action.handler.__doc__ or ""),
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": given, "example": example(action.name, given, components)}
            },
        },
        "responses": {
            "200": {
                "description": "Done",
                "headers": _told(action),
                "content": {"application/json": {"schema": gives}},
            },
            **{status: {"$ref": f"#/components/responses/{status}"} for status in sorted(_STATUSES)},
        },
        **_needs(action),
        "x-bankhub-idempotent": action.idempotent,
        "x-bankhub-audited": action.audited,
    }
    if action.limit is not None:
        rate = action.limit.scaled(rate_scale)
        operation["x-bankhub-limit"] = {"burst": rate.burst, "per_s": rate.per_s}
    if action.step_up is not None:
        operation["x-bankhub-step-up"] = {
            "proof": action.step_up,
            "always": action.step_up_when is None,
        }
    if action.needs is PUBLIC:
        operation["security"] = []
    elif isinstance(action.needs, Permission) and action.needs.scope:
        operation["security"] = [{"access_token": []}, {"dpop": []}, {"apps": [action.needs.name]}]
    return operation


def _told(action: Action[Any, Any]) -> dict[str, Any]:
    """The fields that an answer has besides those of every HTTP answer."""
    names = ["Trace-Id", "RateLimit", "RateLimit-Policy"] + ["Idempotent-Replayed"] * action.idempotent
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _security(declared: Iterable[Action[Any, Any]]) -> dict[str, Any]:
    """How callers prove who they are; the scopes of apps are the permissions that may be asked for."""
    needs = [action.needs for action in declared]
    scopes = {one.name: one.title for one in needs if isinstance(one, Permission) and one.scope}
    return {
        "access_token": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "of gateway.identity.login and refresh; ten minutes",
        },
        "dpop": {
            "type": "apiKey",
            "in": "header",
            "name": "DPoP",
            "description": "RFC 9449: with `Authorization: DPoP <token>`, where the session is bound to a device's key",
        },
        "client_secret": {
            "type": "http",
            "scheme": "basic",
            "description": "apps with a secret, at the OAuth endpoints; those with a key send client_assertion",
        },
        "apps": {
            "type": "oauth2",
            "description": "apps of others: authorization code with PKCE, or client credentials",
            "flows": {
                "authorizationCode": {
                    "authorizationUrl": "/oauth/authorize",
                    "tokenUrl": "/oauth/token",
                    "refreshUrl": "/oauth/token",
                    "scopes": {"openid": "确认你的身份", **dict(sorted(scopes.items()))},
                }
            },
        },
    }


def _needs(action: Action[Any, Any]) -> dict[str, Any]:
    """Who may call, as the declaration says."""
    needs = action.needs
    if not isinstance(needs, Permission):
        return {"x-bankhub-needs": needs.kind}
    return {
        "x-bankhub-needs": "permission",
        "x-permission": needs.name,
        "x-permission-title": needs.title,
        "x-bankhub-roles": sorted(needs.roles),
    }


def _refusal(status: int, what: str, schema: dict[str, Any]) -> dict[str, Any]:
    names = ["Trace-Id"] + ["Retry-After", "RateLimit", "RateLimit-Policy"] * (status == 429)
    names += ["WWW-Authenticate"] * (status == 401) + ["Allow"] * (status == 405)
    codes = [error.code for error in TREE if error.http_status == status] or ["invalid"]
    example = {
        "type": f"urn:bankhub:error:{codes[0]}",
        "title": codes[0].replace("_", " "),
        "status": status,
        "detail": what,
        "code": codes[0],
        "temporary": any(error.code == codes[0] and error.temporary for error in TREE),
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }
    assert set(schema["required"]) <= set(example)
    return {
        "description": what,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": example,
            }
        },
    }


def _header(what: str, **schema: Any) -> dict[str, Any]:
    return {"description": what, "schema": {"type": "string", **schema}}


_HEADERS: Final = {
    "Trace-Id": _header("what to quote when asking for help", pattern="^[0-9a-f]{32}$"),
    "RateLimit": _header("what is left of a limit (draft-ietf-httpapi-ratelimit-headers)"),
    "RateLimit-Policy": _header("the limit itself"),
    "Retry-After": _header("seconds", pattern="^[0-9]+$"),
    "Idempotent-Replayed": _header("the answer was given before under this key", enum=["true"]),
    "WWW-Authenticate": _header("how to prove who calls"),
    "Allow": _header("methods"),
}
