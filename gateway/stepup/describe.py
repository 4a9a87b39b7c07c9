"""What people read before they confirm. The first line says it in few words: it is in the short message too."""

from __future__ import annotations

from typing import Any

from core.actions import Principal
from gateway.access.titles import REACHES, TITLES
from gateway.api import (
    ChangePhone,
    ChangeRole,
    CreateRole,
    GrantInfo,
    RevokeDevice,
    SignContract,
)

TOPS = frozenset({"administrator", "bank_administrator"})


def gives_top(command: Any, who: Principal) -> bool:
    """Whether somebody becomes an administrator by it: `command` has `roles`, None where they stay."""
    return not TOPS.isdisjoint(command.roles or ())


def giving_roles(command: Any) -> list[str]:
    """To whom, and which roles."""
    roles = "、".join(TITLES.get(role, role) for role in sorted(command.roles or ()))
    whom = next(
        (
            f"{label}：{getattr(command, name)}"
            for name, label in (
                ("phone", "手机号"),
                ("person_id", "成员编号"),
                ("request_id", "申请编号"),
            )
            if getattr(command, name, None) is not None
        ),
        "凭邀请码加入的人",
    )
    lines = ["授予管理员权限", whom, f"角色：{roles}"]
    if getattr(command, "uses_max", None) is not None:
        lines.append(f"可使用次数：{command.uses_max}")
    return lines


def changing_phone(command: ChangePhone) -> list[str]:
    """To which number."""
    return [f"将登录手机号更换为 {command.phone}"]


def making_role(command: CreateRole) -> list[str]:
    """Its name and what it may."""
    return [f"新建角色“{command.name}”", *_grants(command.grants)]


def changing_role(command: ChangeRole) -> list[str]:
    """Which one, its name and what it may from now on."""
    return [f"修改角色“{command.name}”", f"角色编号：{command.role_id}", *_grants(command.grants)]


def revoking_device(command: RevokeDevice) -> list[str]:
    """Which one."""
    return ["移除一台受信任的设备", f"设备密钥指纹：{command.jkt}"]


def signing_contract(command: SignContract) -> list[str]:
    """Which agreement the enterprise is bound to."""
    return ["代表企业签署企业手机银行签约协议", f"协议版本：{command.agreement}"]


def enrolling(command: object) -> list[str]:
    """What is switched on."""
    return ["启用动态口令作为第二重验证"]


def removing_totp(command: object) -> list[str]:
    """What is switched off."""
    return ["停用动态口令及其恢复码"]


def renewing_codes(command: object) -> list[str]:
    """What is replaced."""
    return ["重新生成恢复码，旧的全部作废"]


def another_device(command: RevokeDevice, who: Principal) -> bool:
    """Whether it is another one than the one in hand."""
    return command.jkt != who.jkt


def _grants(grants: list[GrantInfo]) -> list[str]:
    return [
        f"权限：{one.permission}（{REACHES[one.reach]}"
        + (
            f"，单笔不超过 {one.amount_fen // 100}.{one.amount_fen % 100:02d} 元"
            if one.amount_fen is not None
            else ""
        )
        + "）"
        for one in grants
    ]
