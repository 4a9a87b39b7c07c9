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
from gateway.oauth.commands import Shown

PAGE: Final = "/oauth/page"
LOGOUT: Final = "/oauth/logout"

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


_CODE: Final = (
    '<button name="step" value="code" formnovalidate>获取短信验证码</button>'
    '<label for="code">短信验证码</label>'
    '<input id="code" name="code" inputmode="numeric" pattern="[0-9]{6}" maxlength="6" '
    'autocomplete="one-time-code" required>'
)


def _login(shown: Shown, notice: str) -> str:
    who = "手机号" if shown.strong else "手机号或登录名"
    problem = f'<p class="warn" role="alert">{escape(notice)}</p>' if notice else ""
    return (
        f"<h1>登录以继续使用“{escape(shown.app)}”</h1>"
        f'<p class="soft">登录在本行页面完成，应用看不到你的密码。</p>{problem}'
        + _form(
            shown,
            f'<label for="login">{who}</label>'
            f'<input id="login" name="login" maxlength="64" autocomplete="username" autocapitalize="none" required '
            f'value="{escape(shown.login_hint)}">{_CODE if shown.strong else ""}'
            '<label for="password">密码</label>'
            '<input id="password" name="password" type="password" maxlength="128" autocomplete="current-password" '
            "required>"
            '<button class="main" name="step" value="login">登录</button>'
            '<button name="step" value="deny" formnovalidate>取消</button>',
        )
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
            '<button name="step" value="other">换一个账号登录</button>'
            '<button name="step" value="deny">取消</button>',
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
        f'<form method="post" action="{LOGOUT}"><input type="hidden" name="page" value="{escape(shown.sealed)}">'
        '<button class="main">退出</button></form>'
    )


def _error(shown: Shown) -> str:
    app = f'<p class="soft">应用：{escape(shown.app)}</p>' if shown.app else ""
    return f"<h1>无法继续</h1><p>{escape(shown.message)}</p>{app}"
