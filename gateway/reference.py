"""What the gateway says about itself: openapi.json, and the same for people at /reference.

The page is made on the server: no script, no image, nothing from elsewhere. Its style stands in it and is allowed by
its digest, so the policy needs no `unsafe-inline`. Whoever looks for something uses the browser's own search.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web
from aiohttp.web_request import BaseRequest

from core.telemetry import Trace
from gateway import openapi
from gateway.paths import OTHERS

if TYPE_CHECKING:
    from core.runtime import Runtime
    from gateway.http import Handler

_NEEDS: Final = {
    "public": "任何人",
    "person": "已登录的人（含游客）",
    "registered": "已注册用户",
    "member": "企业成员",
}
_TYPES: Final = {
    "string": "字符串", "integer": "整数", "number": "数", "boolean": "布尔", "null": "空", "object": "对象",
}  # fmt: skip
_PLACE: Final = "type-"  # of a schema on the page; actions stand under their names
_REFERENCE: Final = re.compile(r'"#/components/schemas/(\w+)"')
_PROOFS: Final = {"sign": "设备签名确认", "factor": "第二因素确认"}
_MEANINGS: Final = {
    "400": "请求不是合法的 HTTP 或 JSON",
    "401": "请先登录",
    "403": "没有权限，或需要先加强认证",
    "404": "不存在，或不可见",
    "405": "方法不对",
    "408": "请求体到得太慢",
    "409": "与现有数据冲突",
    "413": "请求体过大",
    "415": "请求体不是 application/json，或被压缩",
    "421": "不服务这个主机名",
    "422": "请求内容不合要求，errors 指出字段",
    "429": "请求过于频繁，请按 Retry-After 稍后再试",
    "431": "请求头过大",
    "500": "服务端出错",
    "503": "暂时不可用，请稍后再试",
    "504": "超过期限，结果未知：请用同一个 Idempotency-Key 重试",
}
_STYLE: Final = """
:root{color-scheme:light dark;--line:#d8dde3;--soft:#f5f7f9;--ink:#1c2733;--dim:#5b6876;--mark:#0b5cad;--tag:#e6eff8}
@media(prefers-color-scheme:dark){:root{--line:#37414c;--soft:#1d242c;--ink:#e4e9ee;--dim:#9aa7b4;--mark:#7fb8f0;--tag:#23364a}
body{background:#14191f}}
*{box-sizing:border-box}
body{margin:0;color:var(--ink);font:15px/1.6 system-ui,"Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif}
header{padding:24px 20px 8px;max-width:1240px;margin:auto}
h1{font-size:24px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 8px;padding-top:8px;border-top:1px solid var(--line)}
h3{font:600 16px/1.4 ui-monospace,Menlo,Consolas,monospace;margin:0;overflow-wrap:anywhere}
p{margin:4px 0}.dim{color:var(--dim)}a{color:var(--mark);text-decoration:none}a:hover{text-decoration:underline}
.page{display:grid;grid-template-columns:260px minmax(0,1fr);gap:28px;max-width:1240px;margin:auto;padding:0 20px 60px}
nav{position:sticky;top:0;align-self:start;max-height:100vh;overflow:auto;padding:12px 0;font-size:13px}
nav a{display:block;padding:2px 0 2px 14px;overflow-wrap:anywhere}
nav details{margin:0}nav summary{padding:3px 0;color:var(--ink)}
:target{outline:2px solid var(--mark)}
article{border:1px solid var(--line);border-radius:8px;padding:14px 16px;margin:12px 0;scroll-margin-top:8px}
.tags{margin:6px 0;display:flex;flex-wrap:wrap;gap:6px}
.tags span{background:var(--tag);border-radius:4px;padding:0 8px;font-size:13px}
table{border-collapse:collapse;width:100%;font-size:14px;margin:10px 0 6px}
caption,th{font-weight:600;color:var(--dim);text-align:left}caption{padding-bottom:2px}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
.fields{table-layout:fixed}.fields td{overflow-wrap:anywhere}.fields td:nth-child(-n+2){width:26%}
.states :is(td,th):nth-child(-n+2){white-space:nowrap;width:1%}
code,pre{font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
pre{background:var(--soft);padding:10px;border-radius:6px;overflow:auto;margin:6px 0}
details{margin:6px 0}summary{cursor:pointer;color:var(--mark)}
@media(max-width:820px){.page{display:block;padding:0 14px 40px}header{padding:18px 14px 4px}
nav{position:static;max-height:none;border:1px solid var(--line);border-radius:8px;padding:6px 12px}
nav a,nav summary{padding-top:7px;padding-bottom:7px}article{padding:12px}
.fields tr{display:flex;flex-wrap:wrap;gap:0 12px;border-bottom:1px solid var(--line);padding:5px 0}
.fields td,.fields td:nth-child(-n+2){border:0;padding:0;width:auto}
.fields td:nth-child(3){flex-basis:100%;color:var(--dim)}}
"""
_DIGEST: Final = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_ACTIONS: Final = "/v1/"
_PLACES: Final = {"path": "路径", "query": "查询参数", "header": "请求头"}


class Reference:
    """See the module. Made when it is first asked for, then kept."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._document: bytes | None = None
        self._page: bytes | None = None
        self.routes: dict[tuple[str, str], Handler] = {
            ("GET", "/openapi.json"): self._openapi,
            ("GET", "/reference"): self._reference,
        }

    def _made(self) -> dict[str, Any]:
        scale = self._runtime.settings.rate_actions_scale
        registry = self._runtime.registry
        return openapi.document(registry.public(), version="1", rate_scale=scale, others=OTHERS)

    async def _openapi(self, request: BaseRequest, trace: Trace) -> web.Response:
        if self._document is None:
            self._document = orjson.dumps(self._made())
        return web.Response(body=self._document, content_type="application/json")

    async def _reference(self, request: BaseRequest, trace: Trace) -> web.Response:
        if self._page is None:
            self._page = page(self._made()).encode()
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _POLICY}
        return web.Response(body=self._page, headers=headers)


def page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        if path.startswith(_ACTIONS):
            operation = methods["post"]
            by_tag.setdefault(operation["tags"][0], []).append(operation)
    return "".join(_page(document, by_tag))


def _page(document: Mapping[str, Any], by_tag: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield '<!doctype html><html lang="zh-CN"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1"><title>bankhub 接口参考</title>'
    yield f"<style>{_STYLE}</style></head><body><header><h1>bankhub 接口参考</h1>"
    count = sum(map(len, by_tag.values()))
    yield f"<p>共 {count} 个接口。每个接口都是 <code>POST /v1/接口名</code>，请求与应答均为 JSON 对象；"
    yield "编号是十进制字符串，时间是自 1970-01-01（UTC）起的毫秒数，二进制为 base64。</p>"
    yield '<p class="dim">查找请用浏览器的页内搜索（Ctrl+F）。'
    yield '机器可读版本：<a href="/openapi.json">openapi.json</a>。</p>'
    yield '</header><div class="page"><nav aria-label="目录">'
    schemas = document["components"]["schemas"]
    for tag, operations in by_tag.items():
        yield f'<details><summary>{escape(tag)} <span class="dim">{len(operations)}</span></summary>'
        for one in operations:
            name = escape(one["operationId"])
            yield f'<a href="#{name}">{escape(name.rpartition(".")[2])}</a>'
        yield "</details>"
    others = {path: item for path, item in document["paths"].items() if not path.startswith(_ACTIONS)}
    if others:
        yield '<a href="#others">文件与 OAuth</a>'
    yield '<a href="#types">数据结构</a></nav><main>'
    yield from _common(document)
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>"
        for one in operations:
            yield from _operation(one, schemas)
    if others:
        yield '<h2 id="others">文件与 OAuth</h2>'
    for path, item in others.items():
        yield from _other(path, item)
    yield '<h2 id="types">数据结构</h2>'
    for name in _named_types(by_tag, schemas):
        yield f'<article id="{_PLACE}{name}"><h3>{name}</h3>'
        yield from (f"<p>{escape(part)}</p>" for part in schemas[name].get("description", "").split("\n\n"))
        yield from _fields("", schemas[name], schemas)
        yield "</article>"
    yield "</main></div></body></html>"


def _common(document: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>通用约定</h2><p>身份：<code>Authorization: Bearer &lt;访问令牌&gt;</code>；绑定设备密钥的会话另附 "
    yield "<code>DPoP</code>（RFC 9449）。可重试的写操作带 <code>Idempotency-Key</code>：同一键同一请求只生效一次，"
    yield "换了内容则拒绝（422）。<code>Deadline-Ms</code> 是调用方愿意等待的毫秒数。</p>"
    yield "<p>出错时返回 <code>application/problem+json</code>（RFC 9457），"
    yield "其中 <code>trace_id</code> 供求助时引用。</p>"
    yield '<table class="states"><thead><tr><th>状态</th><th>代码</th><th>含义</th></tr></thead><tbody>'
    for status, answer in document["components"]["responses"].items():
        told = answer["content"]["application/problem+json"]["example"]
        yield f"<tr><td>{status}</td><td><code>{escape(told['code'])}</code></td>"
        yield f"<td>{_MEANINGS[status]}</td></tr>"
    yield "</tbody></table>"


def _operation(one: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    name = escape(one["operationId"])
    yield f'<article id="{name}"><h3><a href="#{name}">{name}</a></h3>'
    yield from (f"<p>{escape(part)}</p>" for part in one["description"].split("\n\n"))
    yield '<div class="tags">'
    yield from (f"<span>{escape(tag)}</span>" for tag in _tags(one))
    yield "</div>"
    body = one["requestBody"]["content"]["application/json"]
    yield from _fields("请求", body["schema"], schemas)
    example = orjson.dumps(body["example"], option=orjson.OPT_INDENT_2).decode()
    yield f"<details><summary>示例</summary><pre>{escape(example)}</pre></details>"
    yield from _fields("应答", one["responses"]["200"]["content"]["application/json"]["schema"], schemas)
    yield "</article>"


def _other(path: str, item: Mapping[str, Any]) -> Iterator[str]:
    """A path that is no action: bytes, forms and pages."""
    for method, one in item.items():
        if method == "parameters":
            continue
        name = escape(one["operationId"])
        yield f'<article id="{name}"><h3><a href="#{name}">{method.upper()} {escape(path)}</a></h3>'
        yield f"<p>{escape(one['summary'])}</p>"
        yield '<table class="fields"><caption>参数</caption><tbody>'
        for given in (*item.get("parameters", ()), *one["parameters"]):
            must = "必填；" if given["required"] else ""
            yield f"<tr><td><code>{escape(given['name'])}</code></td><td>{_PLACES[given['in']]}</td>"
            yield f"<td>{must}{escape(given['description'])}</td></tr>"
        for kind, body in one.get("requestBody", {"content": {}})["content"].items():
            fields = "、".join(body["schema"].get("properties", ())) or "文件内容"
            yield f"<tr><td><code>{escape(kind)}</code></td><td>请求体</td><td>{escape(fields)}</td></tr>"
        yield f"</tbody></table><p>应答：{escape('、'.join(sorted(one['responses'])))}</p></article>"


def _tags(one: Mapping[str, Any]) -> Iterator[str]:
    if "x-permission" in one:
        yield f"权限 {one['x-permission']}（{one['x-permission-title']}）"
    else:
        yield _NEEDS.get(one["x-bankhub-needs"], one["x-bankhub-needs"])
    if one["x-bankhub-idempotent"]:
        yield "可带 Idempotency-Key"
    if one["x-bankhub-audited"]:
        yield "记入审计"
    if "x-bankhub-limit" in one:
        yield f"限次：突发 {one['x-bankhub-limit']['burst']}，每秒 {one['x-bankhub-limit']['per_s']:.3g}"
    if "x-bankhub-step-up" in one:
        asked = one["x-bankhub-step-up"]
        yield f"{'' if asked['always'] else '部分请求'}需{_PROOFS[asked['proof']]}"


def _fields(title: str, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    shape = schemas[_target(schema)] if "$ref" in schema else schema
    properties = shape.get("properties")
    if not properties:
        what = "没有字段" if title == "请求" else _kind(schema)
        yield f'<p class="dim">{"：".join(filter(None, (title, what)))}</p>'
        return
    yield f'<table class="fields"><caption>{title}</caption><tbody>'
    for name, inner in properties.items():
        must = "必填" if name in shape.get("required", ()) and title == "请求" else ""
        said = "" if _is_id(inner) else str(inner.get("description", ""))
        notes = "；".join(filter(None, (must, *_limits(inner), said)))
        yield f"<tr><td><code>{escape(name)}</code></td><td>{_kind(inner)}</td><td>{escape(notes)}</td></tr>"
    yield "</tbody></table>"


def _named_types(by_tag: Mapping[str, list[dict[str, Any]]], schemas: Mapping[str, Any]) -> list[str]:
    """Every schema that the page names as a type, also within those: what it links to."""
    bodies = [
        body["content"]["application/json"]["schema"]
        for operations in by_tag.values()
        for one in operations
        for body in (one["requestBody"], one["responses"]["200"])
    ]
    asked = [schemas[_target(body)] if "$ref" in body else body for body in bodies]
    found: set[str] = set()
    while asked:
        new = {match for match in _REFERENCE.findall(orjson.dumps(asked).decode()) if match not in found}
        found |= new
        asked = [schemas[name] for name in new]
    return sorted(found)


def _target(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"].rpartition("/")[2])


def _is_id(schema: Mapping[str, Any]) -> bool:
    return schema.get("pattern") == "^(0|[1-9][0-9]{0,18})$"


def _kind(schema: Mapping[str, Any]) -> str:
    """The type, as markup: a name links to its fields."""
    if "$ref" in schema:
        return f'<a href="#{_PLACE}{_target(schema)}">{_target(schema)}</a>'
    if "enum" in schema:
        return escape(" | ".join(map(str, schema["enum"])))
    if "const" in schema:
        return escape(str(schema["const"]))
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " | ".join(dict.fromkeys(map(_kind, schema[word])))
    if schema.get("type") == "array":
        return f"{_kind(schema.get('items', {}))}[]"
    return "编号" if _is_id(schema) else _TYPES.get(str(schema.get("type")), "任意")


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    others = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(others) == 1:
        yield from _limits(others[0])
    for word, said in (
        ("minLength", "至少 {} 字"), ("maxLength", "至多 {} 字"), ("minimum", "不小于 {}"), ("maximum", "不大于 {}"),
        ("minItems", "至少 {} 项"), ("maxItems", "至多 {} 项"), ("pattern", "格式 {}"), ("default", "默认 {}"),
    ):  # fmt: skip
        if word in schema and schema[word] is not None and not (word == "pattern" and _is_id(schema)):
            yield said.format(orjson.dumps(schema[word]).decode() if word == "default" else schema[word])
