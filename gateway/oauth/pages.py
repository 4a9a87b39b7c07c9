"""The pages that people see: plain HTML from the server, no script, one style sheet inside, phones first.

Every value goes through `escape`. The policy allows nothing but this style (by its hash) and forms to ourselves and on
to the app that the page is about.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from core.access import Permission
from gateway.oauth.apps.rules import IDENTITY_SCOPES, UNTIL_RISK, origin_of
from gateway.oauth.commands import SENT, Shown

PAGE: Final = "/oauth/page"
LEAVE: Final = "/oauth/logout/page"

_STYLE: Final = Path(__file__).with_name("style.css").read_text("utf-8")
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()


def policy(shown: Shown) -> str:
    """The Content-Security-Policy of a page; a form may lead on to the app, by a redirect of ours."""
    target = "'self'" if shown.redirect is None else f"'self' {origin_of(shown.redirect)}"
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {target}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )


def render(shown: Shown, scopes: Mapping[str, Permission], notice: str = "") -> str:
    """The page. `notice`: what went wrong with the answer before."""
    match shown.kind:
        case "login":
            title, inner = "登录", _login(shown, notice)
        case "factor":
            title, inner = "两步验证", _factor(shown, notice)
        case "select":
            title, inner = "选择企业", _select(shown)
        case "consent":
            title, inner = "授权确认", _consent(shown, scopes)
        case "leave":
            title, inner = "退出登录", _leave(shown)
        case "left":
            title, inner = "已退出", "<h1>已退出登录</h1><p class=soft>你可以关闭此页面。</p>"
        case _:
            title, inner = "无法继续", _error(shown)
    return (
        '<!doctype html><html lang="zh-CN"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="robots" content="noindex"><title>{title} · 企业手机银行</title><style>{_STYLE}</style></head>'
        f'<body><main><p class="bank">企业手机银行 · 统一授权</p><section class="card">{inner}</section>'
        "<footer>请确认地址栏为本行域名后再输入密码。银行工作人员不会向你索要密码或验证码。</footer></main></body></html>"
    )


def _form(shown: Shown, inner: str) -> str:
    return (
        f'<form method="post" action="{PAGE}"><input type="hidden" name="page" value="{escape(shown.sealed)}">'
        f"{inner}</form>"
    )


def _problem(notice: str) -> str:
    """What the page says of the answer before: news if it went well."""
    if not notice:
        return ""
    kind = 'class="news" role="status"' if notice == SENT else 'class="warn" role="alert"'
    return f"<p {kind}>{escape(notice)}</p>"


def _login(shown: Shown, notice: str) -> str:
    name, word = ("", " autofocus") if shown.login_hint else (" autofocus", "")
    return (
        f"<h1>登录以继续使用“{escape(shown.app)}”</h1>"
        f'<p class="soft">登录在本行页面完成，应用看不到你的密码。</p>{_problem(notice)}'
        + _form(
            shown,
            '<label for="login">手机号或登录名</label>'
            f'<input id="login" name="login" maxlength="64" autocomplete="username" autocapitalize="none" '
            f'spellcheck="false" required{name} value="{escape(shown.login_hint)}">'
            '<label for="password">密码</label>'
            '<input id="password" name="password" type="password" maxlength="128" autocomplete="current-password" '
            f"required{word}>"
            '<button class="main" name="step" value="login">登录</button>'
            '<button class="plain" name="step" value="deny" formnovalidate>取消</button>',
        )
    )


_WAYS: Final = {
    # way: (what to do, the label, what the way is called on the button that leads to it)
    "totp": ("打开手机上的验证器应用，输入此账号当前显示的 6 位数字。", "动态验证码", "改用动态码"),
    "sms": ("输入发送到你绑定手机的 6 位验证码。", "短信验证码", "改用短信"),
    "recovery": ("输入开启两步验证时保存的任意一个恢复码，每个只能用一次。", "恢复码", "改用恢复码"),
}
_SIX: Final = (
    'inputmode="numeric" pattern="[0-9]{3} ?[0-9]{3}" maxlength="7" autocomplete="one-time-code" '
    'class="code" title="6 位数字"'
)
_WORDS: Final = (
    'maxlength="24" minlength="16" autocomplete="off" autocapitalize="characters" spellcheck="false"'
)


def _factor(shown: Shown, notice: str) -> str:
    told, label, _ = _WAYS[shown.way]
    others = "".join(
        f'<button class="plain" name="step" value="{way}" formnovalidate>'
        f"{_WAYS[way][2] if way != shown.way else '重发短信'}</button>"
        for way in sorted(shown.ways, key=lambda way: way != shown.way)
        if way != shown.way or way == "sms"
    )
    return f'<h1>两步验证</h1><p class="soft">密码正确。{told}</p>{_problem(notice)}' + _form(
        shown,
        f'<label for="code">{label}</label>'
        f'<input id="code" name="code" required autofocus {_WORDS if shown.way == "recovery" else _SIX}>'
        f'<button class="main" name="step" value="factor">验证</button><div class="others">{others}</div>'
        '<div class="others"><button class="plain" name="step" value="restart" formnovalidate>换一个账号</button>'
        '<button class="plain" name="step" value="deny" formnovalidate>取消</button></div>',
    )


def _select(shown: Shown) -> str:
    rows = "".join(
        f'<button class="row" name="enterprise" value="{one.enterprise_id}">{escape(one.name)}</button>'
        for one in shown.offered
    )
    return (
        f"<h1>以哪家企业的身份使用“{escape(shown.app)}”？</h1>"
        f'<p class="soft">{escape(shown.person)}，应用只会看到你选择的这一家。</p>'
        + _form(shown, f'<input type="hidden" name="step" value="select">{rows}')
        + _form(
            shown,
            '<div class="others"><button class="plain" name="step" value="other">换一个账号</button>'
            '<button class="plain" name="step" value="deny">取消</button></div>',
        )
    )


def _consent(shown: Shown, scopes: Mapping[str, Permission]) -> str:
    enterprise = "" if shown.enterprise is None else shown.enterprise.name
    names = sorted(shown.scopes, key=lambda name: (name not in IDENTITY_SCOPES, name))
    rows = "".join(_scope_row(name, scopes) for name in names)
    target = escape(urlsplit(shown.redirect or "").netloc)
    return (
        f"<h1>“{escape(shown.app)}”申请使用你的信息</h1>"
        f'<p class="soft">{escape(shown.person)} · {escape(enterprise)}</p><ul>{rows}</ul>'
        '<p class="soft">应用不能转账、付款或替你审批。你可以随时在“我的 - 应用授权”中取消。</p>'
        f'<p class="soft">同意后将返回 {target}</p>'
        + _form(
            shown,
            '<button class="main" name="step" value="allow">同意</button>'
            '<button name="step" value="deny">不同意</button>',
        )
    )


def _scope_row(name: str, scopes: Mapping[str, Permission]) -> str:
    permission = scopes.get(name)
    words = IDENTITY_SCOPES.get(name) or (permission.title if permission is not None else name)
    mark = "<small>敏感</small>" if permission is not None and permission.risk >= UNTIL_RISK else ""
    return f"<li><span>{escape(words)}</span>{mark}</li>"


def _leave(shown: Shown) -> str:
    asks = f"“{escape(shown.app)}”请求退出登录。" if shown.app else "确认要退出登录吗？"
    return (
        f"<h1>退出登录</h1><p>{escape(shown.person)}，{asks}</p>"
        f'<form method="post" action="{LEAVE}"><input type="hidden" name="page" value="{escape(shown.sealed)}">'
        '<button class="main">退出</button></form><p class="soft">不想退出，关闭此页面即可。</p>'
    )


def _error(shown: Shown) -> str:
    app = f'<p class="soft">应用：{escape(shown.app)}</p>' if shown.app else ""
    return f"<h1>无法继续</h1><p>{escape(shown.message)}</p>{app}"
