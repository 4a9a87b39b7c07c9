"""What built-in roles, reaches, permissions and decisions are called."""

from __future__ import annotations

from typing import Final

from core.access import PERMISSION_TITLES

TITLES: Final = {
    "employee": "员工",
    "finance_maker": "财务经办",
    "finance_reviewer": "财务复核",
    "boss": "老板",
    "administrator": "管理员",
    "bank_operator": "运营经办",
    "bank_reviewer": "运营复核",
    "bank_auditor": "审计",
    "bank_support": "客服",
    "bank_administrator": "系统管理",
}
REACHES: Final = {"own": "本人", "department": "本部门", "tree": "本部门及下级", "enterprise": "全企业"}
CONTRACT_STEPS: Final = {
    "pass": "通过",
    "return": "退回",
    "reject": "拒绝",
    "suspend": "暂停",
    "resume": "恢复",
    "end": "终止",
}


def title_of(permission: str) -> str:
    """What a permission is called; of a service that is not in this process, its name."""
    return PERMISSION_TITLES.get(permission, permission)
