"""What built-in roles and reaches are called."""

from __future__ import annotations

from typing import Final

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
