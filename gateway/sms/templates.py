"""The texts of short messages. A platform that keeps its own texts goes by the template's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SECRET: Final = "切勿告诉任何人，包括银行员工。"  # noqa: S105 - a warning
TEXTS: Final[Mapping[str, str]] = {
    "login": "验证码 {code}，用于登录，{minutes} 分钟内有效。" + _SECRET,
    "reset_password": "验证码 {code}，用于重置密码，{minutes} 分钟内有效。" + _SECRET,
    "change_phone": "验证码 {code}，用于将本号码绑定为登录手机号，{minutes} 分钟内有效。" + _SECRET,
    "confirm": "验证码 {code}，用于{what}，{minutes} 分钟内有效。" + _SECRET,
    "password_changed": "您的登录密码已修改，所有设备均已退出登录。如非本人操作，请立即联系银行。",
    "phone_changed": "您的登录手机号已更换为 {phone}，所有设备均已退出登录。如非本人操作，请立即联系银行。",
    "device_bound": "您的账号已信任新设备“{name}”。如非本人操作，请立即在“我的设备”中移除并修改密码。",
}


def text(template: str, params: Mapping[str, str]) -> str:
    """What the phone shows. Raises `KeyError` for a template or a parameter that is not there."""
    return TEXTS[template].format_map(params)
