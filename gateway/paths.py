"""What the HTTP edge serves besides actions, for OpenAPI: bytes of files in and out, and the provider of OAuth."""

from __future__ import annotations

from typing import Any, Final

Operation = dict[str, Any]

_PROBLEM: Final = {
    "description": "Refused: problem details",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_OAUTH_ERROR: Final = {
    "description": "Refused, as RFC 6749 section 5.2 has it",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
            }
        }
    },
}
_BYTES: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_ID: Final[dict[str, Any]] = {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"}
_FILE: Final = {
    "application/json": {
        "schema": {
            "type": "object",
            "description": "The file, as files.library.get tells of it",
            "required": ["file_id", "state"],
            "properties": {"file_id": _ID, "state": {"type": "string"}},
        }
    }
}


def _header(name: str, what: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return _parameter("header", name, what, required=required, **schema)


def _parameter(place: str, name: str, what: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": required or place == "path",
        "description": what,
        "schema": {"type": "string"} | schema,
    }


def _told(**headers: str) -> dict[str, Any]:
    return {
        name.replace("_", "-"): {"description": what, "schema": {"type": "string"}}
        for name, what in headers.items()
    }


def _operation(
    tag: str,
    name: str,
    summary: str,
    answers: dict[str, Any],
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
    security: list[dict[str, list[str]]] | None = None,
) -> Operation:
    made: Operation = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "parameters": parameters or [],
        "responses": answers,
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": body}
    if security is not None:
        made["security"] = security
    return made


def _refused(*statuses: int) -> dict[str, Any]:
    return {str(status): _PROBLEM for status in statuses}


# --- files ------------------------------------------------------------------------------------------------------------

_TUS: Final = _header("Tus-Resumable", "the version of the protocol", required=True, enum=["1.0.0"])
_DIGEST: Final = _header("Repr-Digest", "RFC 9530: sha-256 or sm3 of the whole; others alone are refused")
_RANGES: Final = [
    _header("Range", "RFC 9110: one part, as in bytes=0-1023"),
    _header("If-Range", "the part only if it is still this file, by its ETag"),
    _header("If-None-Match", "304 where it is still this file"),
]


def _whole(name: str) -> Operation:
    return _operation(
        "files.doors",
        name,
        "Upload a whole file in one request",
        {
            "201": {
                "description": "Stored and checked",
                "headers": _told(Location="where it is"),
                "content": _FILE,
            },
            "202": {"description": "Stored; it is still being checked", "content": _FILE},
            **_refused(400, 401, 403, 408, 409, 411, 413, 415, 422, 429, 503),
        },
        parameters=[
            _parameter("query", "name", "the file's name with its ending", required=True, maxLength=255),
            _header(
                "Idempotency-Key",
                "the same upload under the same key is one file",
                pattern="^[0-9A-Za-z_-]{1,64}$",
            ),
            _DIGEST,
            _header("Content-Digest", "the same as Repr-Digest here"),
        ],
        body=_BYTES,
    )


def _read(name: str, summary: str, parameters: list[dict[str, Any]], security: Any = None) -> Operation:
    sent = _told(
        ETag="of these bytes",
        Accept_Ranges="bytes",
        Content_Disposition="its name, and whether it is saved or shown",
        Repr_Digest="RFC 9530, of the original",
    )
    return _operation(
        "files.doors",
        name,
        summary,
        {
            "200": {"description": "All of it", "headers": sent, "content": _BYTES},
            "206": {
                "description": "The part",
                "headers": sent | _told(Content_Range="which part"),
                "content": _BYTES,
            },
            "304": {"description": "It is still this file", "headers": sent},
            **_refused(400, 401, 403, 404, 416, 429, 503),
        },
        parameters=[*parameters, *_RANGES],
        security=security,
    )


_FILE_ID: Final = _parameter("path", "file_id", "the file", **_ID)
_INLINE: Final = _parameter("query", "inline", "shown rather than saved, where its kind is safe to show")
_UPLOAD_ID: Final = _parameter("path", "upload_id", "the upload", **_ID)

FILES: Final[dict[str, Any]] = {
    "/files/upload": {"post": _whole("files.doors.upload"), "put": _whole("files.doors.upload_put")},
    "/files/tus": {
        "options": _operation(
            "files.doors",
            "files.doors.tus_abilities",
            "What of tus 1.0 is spoken here",
            {
                "204": {
                    "description": "Told in headers",
                    "headers": _told(
                        Tus_Version="versions", Tus_Extension="extensions", Tus_Max_Size="bytes"
                    ),
                }
            },
        ),
        "post": _operation(
            "files.doors",
            "files.doors.tus_create",
            "Begin a resumable upload (tus 1.0, creation and creation-with-upload)",
            {
                "201": {
                    "description": "Begun",
                    "headers": _told(
                        Location="of the upload", Upload_Offset="bytes stored", Upload_Expires="until when"
                    ),
                },
                **_refused(400, 401, 403, 409, 412, 413, 415, 422, 429, 503),
            },
            parameters=[
                _TUS,
                _header("Upload-Length", "bytes of the whole file", required=True, pattern="^[0-9]{1,18}$"),
                _header("Upload-Metadata", "filename, filetype, sha256, sm3: each in base64", maxLength=4096),
            ],
        ),
    },
    "/files/tus/{upload_id}": {
        "parameters": [_UPLOAD_ID],
        "head": _operation(
            "files.doors",
            "files.doors.tus_offset",
            "How much of an upload is stored",
            {
                "200": {
                    "description": "Told in headers",
                    "headers": _told(
                        Upload_Offset="bytes stored", Upload_Length="bytes of the whole", File_Id="when done"
                    ),
                },
                **_refused(401, 403, 404, 410, 412, 429, 503),
            },
            parameters=[_TUS],
        ),
        "patch": _operation(
            "files.doors",
            "files.doors.tus_append",
            "Go on with an upload",
            {
                "204": {
                    "description": "Stored so far",
                    "headers": _told(
                        Upload_Offset="bytes stored",
                        File_Id="when it is whole",
                        File_State="of the file then",
                    ),
                },
                **_refused(400, 401, 403, 404, 408, 409, 410, 412, 413, 415, 422, 429, 503),
            },
            parameters=[
                _TUS,
                _header("Upload-Offset", "from which byte on", required=True, pattern="^[0-9]{1,18}$"),
            ],
            body={"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        ),
        "delete": _operation(
            "files.doors",
            "files.doors.tus_abort",
            "Give an upload up",
            {"204": {"description": "Gone"}, **_refused(401, 403, 404, 412, 429, 503)},
            parameters=[_TUS],
        ),
    },
    "/files/{file_id}": {"get": _read("files.doors.read", "The bytes of a file", [_FILE_ID, _INLINE])},
    "/files/{file_id}/{variant}": {
        "get": _read(
            "files.doors.read_variant",
            "The bytes of a file, or of a picture made of it",
            [
                _FILE_ID,
                _parameter("path", "variant", "which", enum=["original", "thumbnail", "preview"]),
                _INLINE,
            ],
        )
    },
    "/files/open/{token}/{name}": {
        "get": _read(
            "files.doors.open",
            "By an address that was made for somebody and ends soon",
            [
                _parameter("path", "token", "says what may be read and until when", maxLength=256),
                _parameter("path", "name", "what the browser saves it as"),
            ],
            security=[],
        )
    },
}


# --- OAuth ------------------------------------------------------------------------------------------------------------

_REQUEST: Final[tuple[tuple[str, bool, dict[str, Any]], ...]] = (
    ("response_type", True, {"enum": ["code"]}),
    ("client_id", True, {}),
    ("redirect_uri", True, {}),
    ("scope", True, {}),
    ("code_challenge", True, {"pattern": "^[A-Za-z0-9_-]{43}$"}),
    ("code_challenge_method", True, {"enum": ["S256"]}),
    ("state", False, {"maxLength": 512}),
    ("nonce", False, {"maxLength": 256}),
    ("prompt", False, {}),
    ("max_age", False, {}),
    ("acr_values", False, {}),
    ("ent", False, {}),
    ("login_hint", False, {}),
    ("id_token_hint", False, {}),
    ("dpop_jkt", False, {}),
)
_CLIENT: Final = ("client_id", "client_assertion_type", "client_assertion")
_PAGE: Final = {"text/html": {"schema": {"type": "string"}}}
_JSON: Final = {"application/json": {"schema": {"type": "object"}}}
_BY_CLIENT: Final[list[dict[str, list[str]]]] = [{"client_secret": []}, {}]


def _form(*names: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    if required:
        schema["required"] = list(required)
    return {"application/x-www-form-urlencoded": {"schema": schema}}


def _client_call(
    name: str, summary: str, *fields: str, required: tuple[str, ...], status: str = "200"
) -> Operation:
    answers = {status: {"description": "Done", "content": _JSON}, "400": _OAUTH_ERROR, "401": _OAUTH_ERROR}
    return _operation(
        "oauth",
        name,
        summary,
        answers | _refused(413, 415, 429, 503),
        parameters=[_header("DPoP", "RFC 9449: a proof of the key that tokens are bound to")],
        body=_form(*_CLIENT, *fields, required=required),
        security=_BY_CLIENT,
    )


def _metadata(name: str, summary: str) -> Operation:
    return _operation(
        "oauth",
        name,
        summary,
        {"200": {"description": "JSON", "content": _JSON}, **_refused(429)},
        security=[],
    )


def _userinfo(name: str) -> Operation:
    return _operation(
        "oauth",
        name,
        "Who the person of an app's token is",
        {
            "200": {"description": "Claims", "content": _JSON},
            "401": _OAUTH_ERROR,
            "403": _OAUTH_ERROR,
            **_refused(429, 503),
        },
        security=[{"apps": ["openid"]}],
    )


_LEAVE: Final = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state")
_SHOWN: Final = {
    "200": {"description": "A page for the person", "content": _PAGE},
    "303": {"description": "Back to the app", "headers": _told(Location="with code or error, state and iss")},
    "400": {"description": "A page that says what is wrong", "content": _PAGE},
    **_refused(429),
}

OAUTH: Final[dict[str, Any]] = {
    "/.well-known/openid-configuration": {
        "get": _metadata("oauth.discovery", "What the provider says of itself")
    },
    "/.well-known/oauth-authorization-server": {"get": _metadata("oauth.metadata", "The same (RFC 8414)")},
    "/oauth/jwks": {"get": _metadata("oauth.jwks", "Keys that tokens are signed with")},
    "/oauth/authorize": {
        "get": _operation(
            "oauth",
            "oauth.authorize",
            "Where an app sends the browser of a person",
            _SHOWN,
            parameters=[
                *(_parameter("query", name, "see docs/oauth.md", **schema) for name, _, schema in _REQUEST),
                _parameter("query", "request_uri", "of /oauth/par, with client_id in place of all others"),
            ],
            security=[],
        ),
        "post": _operation(
            "oauth",
            "oauth.authorize_form",
            "The same as a form",
            _SHOWN,
            body=_form(*(name for name, _, _ in _REQUEST)),
            security=[],
        ),
    },
    "/oauth/par": {
        "post": _client_call(
            "oauth.par",
            "Push a request before sending the browser (RFC 9126)",
            *(name for name, _, _ in _REQUEST),
            required=tuple(name for name, must, _ in _REQUEST if must and name != "client_id"),
            status="201",
        )
    },
    "/oauth/token": {
        "post": _client_call(
            "oauth.token",
            "Tokens for a code, a refresh token, or an app itself",
            "grant_type",
            "code",
            "redirect_uri",
            "code_verifier",
            "refresh_token",
            "scope",
            "ent",
            required=("grant_type",),
        )
    },
    "/oauth/revoke": {
        "post": _client_call(
            "oauth.revoke", "Give a token back (RFC 7009)", "token", "token_type_hint", required=("token",)
        )
    },
    "/oauth/introspect": {
        "post": _client_call(
            "oauth.introspect",
            "What a token is worth (RFC 7662), for resource servers",
            "token",
            "token_type_hint",
            required=("token",),
        )
    },
    "/oauth/userinfo": {"get": _userinfo("oauth.userinfo"), "post": _userinfo("oauth.userinfo_post")},
    "/oauth/bridge": {
        "post": _client_call(
            "oauth.bridge",
            "A bridge token for the page of a micro app",
            "access_token",
            "origin",
            "nonce",
            "apis",
            required=("access_token", "origin", "nonce", "apis"),
        )
    },
    "/oauth/logout": {
        "get": _operation(
            "oauth",
            "oauth.logout",
            "Log the person out here (RP-initiated logout)",
            _SHOWN,
            parameters=[_parameter("query", name, "see docs/oauth.md") for name in _LEAVE],
            security=[],
        ),
        "post": _operation(
            "oauth", "oauth.logout_form", "The same as a form", _SHOWN, body=_form(*_LEAVE), security=[]
        ),
    },
}

OTHERS: Final[dict[str, Any]] = FILES | OAUTH
