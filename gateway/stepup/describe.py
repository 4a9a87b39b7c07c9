"""What people read before they confirm. The first line says it in few words: it is in the short message too."""

from __future__ import annotations

from typing import Any

from core.actions import Principal
from gateway.access.titles import CONTRACT_STEPS, REACHES, TITLES, title_of
from gateway.api import (
    AddWebhook,
    ChangePhone,
    ChangeRole,
    ChangeWebhook,
    CreateInvitation,
    CreateRole,
    DecideContract,
    DisablePerson,
    EnablePerson,
    ForgetFactors,
    GrantInfo,
    InstallApp,
    RenewWebhookSecret,
    RevokeDevice,
    SignContract,
)

MANY_USES = 20  # of an invitation: a group that somebody sees in front of them


def gives_power(command: Any, who: Principal) -> bool:
    """Whether somebody gets more than everybody in an enterprise has: `command` has `roles`, None where they stay."""
    return not set(command.roles or ()) <= {"employee"}


def changes_roles(command: Any, who: Principal) -> bool:
    """Whether somebody gets other roles: to take power away is power too."""
    return command.roles is not None


def opens_doors(command: CreateInvitation, who: Principal) -> bool:
    """Whether an invitation gives power, or lets many in."""
    return gives_power(command, who) or command.uses_max > MANY_USES


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
    lines = ["授予成员角色", whom, f"角色：{roles or '不变'}"]
    if getattr(command, "uses_max", None) is not None:
        lines.append(f"可使用次数：{command.uses_max}")
    return lines


def ending(command: Any) -> list[str]:
    """Who goes."""
    return ["将成员移出本单位", f"成员编号：{command.person_id}"]


def installing(command: InstallApp) -> list[str]:
    """Which app, what it may."""
    scopes = "、".join(title_of(scope) for scope in sorted(command.scopes))
    days = "长期" if command.days is None else f"{command.days} 天"
    return ["为本企业安装第三方应用", f"应用编号：{command.app_id}", f"授权范围：{scopes}", f"期限：{days}"]


def sending_out(command: AddWebhook | ChangeWebhook) -> list[str]:
    """What goes where."""
    events = "、".join(sorted(command.events or ())) or "不变"
    return ["将本企业的事件发送到外部地址", f"地址：{command.url or '不变'}", f"事件：{events}"]


def renewing_webhook(command: RenewWebhookSecret) -> list[str]:
    """Whose secret."""
    return ["更换事件推送的签名密钥", f"推送编号：{command.webhook_id}"]


def deciding_contract(command: DecideContract) -> list[str]:
    """What, about whom."""
    return [f"签约审批：{CONTRACT_STEPS[command.decision]}", f"企业编号：{command.enterprise_id}"]


def disabling(command: DisablePerson) -> list[str]:
    """Whom."""
    return ["停用用户", f"用户编号：{command.person_id}", f"原因：{command.reason}"]


def enabling(command: EnablePerson) -> list[str]:
    """Whom."""
    return ["恢复用户", f"用户编号：{command.person_id}", f"原因：{command.reason}"]


def forgetting_factors(command: ForgetFactors) -> list[str]:
    """Whose."""
    return ["清除用户的全部第二重验证", f"用户编号：{command.person_id}", f"原因：{command.reason}"]


def revealing(command: Any) -> list[str]:
    """Whose data."""
    return ["查看个人信息明文", f"用户编号：{command.person_id}", f"原因：{command.reason}"]


def exporting(command: object) -> list[str]:
    """What is made."""
    return ["导出我的个人信息"]


def erasing(command: object) -> list[str]:
    """What is done."""
    return ["注销账户（不可恢复）"]


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
        f"权限：{title_of(one.permission)}（{REACHES[one.reach]}"
        + (
            f"，单笔不超过 {one.amount_fen // 100}.{one.amount_fen % 100:02d} 元"
            if one.amount_fen is not None
            else ""
        )
        + "）"
        for one in grants
    ]
