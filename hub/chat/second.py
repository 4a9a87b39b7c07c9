"""The second factor of a login, asked for at the terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from prompt_toolkit import PromptSession

from hub.client import HubError

Ask = Callable[[str], Awaitable[str]]
"""Shows a question and gives what was typed. Raises `EOFError` when nothing more will be."""

Call = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Calls an action of the gateway. Raises `HubError`."""

_RECOVERY: Final = 16  # characters of a recovery code, without hyphens
_TYPED_S: Final = frozenset({"s", "短信"})
_TYPED_T: Final = frozenset({"t", "动态码"})


class NoFactor(Exception):
    """There is no second factor to ask for, or nobody who could type it."""


async def at_terminal(question: str) -> str:
    """`Ask` for a person in front of a terminal, or for a script that writes lines."""
    if sys.stdin.isatty() and sys.stderr.isatty():
        try:
            session: PromptSession[str] = PromptSession()
            return await session.prompt_async(question)
        except KeyboardInterrupt:
            raise EOFError from None
    sys.stderr.write(question)
    sys.stderr.flush()
    line: str = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    if not line:
        say("")
        raise EOFError
    return line


def say(line: str) -> None:
    """One line, where it is not in the way of what people say to each other."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


async def complete(
    call: Call, ask: Ask, half: Mapping[str, Any], device: str, platform: str
) -> Mapping[str, Any] | None:
    """The session that begins once the code is right; None where the time for it is over: begin again.

    `half` is what the refusal of the password alone says. Raises `HubError`, and `NoFactor`.
    """
    ways: Sequence[str] = half.get("ways") or ()
    if not ways:
        raise NoFactor("此账号必须两步验证，但还没有可用的方式，请联系管理员")
    way = "totp" if "totp" in ways else "sms"
    ticket = {"ticket": half["ticket"], "device": device}
    if way == "sms":
        await _send(call, ticket)
    while True:
        try:
            typed = (await ask(_question(way, ways))).strip()
        except EOFError:
            raise NoFactor("没有输入验证码") from None
        if typed.lower() in _TYPED_S and "sms" in ways:
            way = "sms"
            await _send(call, ticket)
            continue
        if typed.lower() in _TYPED_T and "totp" in ways:
            way = "totp"
            continue
        plain = typed.replace("-", "").replace(" ", "")
        recovery = len(plain) == _RECOVERY and "recovery" in ways
        if not recovery and not (len(plain) == 6 and plain.isdecimal()):
            say("验证码是 6 位数字" + ("，恢复码是 16 位字母和数字" if "recovery" in ways else ""))
            continue
        fields = ticket | {"way": "recovery" if recovery else way, "code": plain, "platform": platform}
        try:
            return await call("gateway.factors.complete_login", fields)
        except HubError as error:
            if error.detail.get("code") == "login_again":
                say("等待的时间过长，重新开始验证")
                return None
            if error.code == "too_many_requests":
                say(_later(error))
            elif error.code == "unauthenticated":
                say("验证码不正确或已失效")
            else:
                raise


def _question(way: str, ways: Sequence[str]) -> str:
    if way == "sms":
        return f"短信验证码（s 重发{'，t 改用验证器' if 'totp' in ways else ''}）："
    return f"验证器动态码，或恢复码{'（s 改收短信）' if 'sms' in ways else ''}："


async def _send(call: Call, ticket: Mapping[str, Any]) -> None:
    try:
        await call("gateway.factors.send_login_code", ticket)
    except HubError as error:
        if error.code != "too_many_requests":
            raise
        say(_later(error))
    else:
        say("两步验证：验证码已发送到你绑定的手机")


def _later(error: HubError) -> str:
    return f"太频繁了，请 {max(1, -(-error.retry_ms // 1000))} 秒后再试"
