"""What people may ask about their own data, and who may see others' unmasked."""

from __future__ import annotations

from typing import Any, Literal

from core.actions import Command, Id, Permission, Value
from gateway.api.enterprises import Reason

PRIVACY_UNMASK = Permission(
    "privacy:unmask", "查看客户完整信息", {"bank_support"}, realm="bank", risk=3, assignable=False
)
PRIVACY_AUDIT = Permission(
    "privacy:audit", "查阅个人信息使用记录", {"bank_auditor"}, realm="bank", risk=2, assignable=False
)
CONTACTS_REVEAL = Permission("contacts:reveal", "查看成员完整手机号", {"administrator", "boss"}, risk=2)


class PrivacyTask(Value):
    """Work on one's own data. A result can be fetched until `expires_ms`."""

    task_id: Id
    kind: Literal["export", "erase"]
    state: Literal["waiting", "done"]
    created_ms: int
    done_ms: int | None
    expires_ms: int | None


class PersonalData(Value):
    """Everything the gateway keeps about a person, by topic."""

    data: dict[str, Any]


class Unmasked(Value):
    """A person's data in clear, for whoever has said why."""

    person_id: Id
    name: str
    phone: str | None


class ReasonGiven(Value):
    """Why somebody of the staff looked at or did something about a person."""

    by_id: Id
    action: str
    reason: str
    given_ms: int


# --- commands -------------------------------------------------------------------------------------------------------


class RequestExport(Command[PrivacyTask], action="gateway.privacy.request_export"):
    """Ask for a copy of one's own data."""


class ListPrivacyTasks(Command[list[PrivacyTask]], action="gateway.privacy.tasks"):
    """What one has asked for."""


class FetchExport(Command[PersonalData], action="gateway.privacy.fetch_export"):
    """The copy that was made."""

    task_id: Id


class EraseMe(Command[PrivacyTask], action="gateway.privacy.erase"):
    """Leave everything and be forgotten. Cannot be undone."""


class UnmaskPerson(Command[Unmasked], action="gateway.privacy.unmask"):
    """For the bank's staff: a person's name and number in clear."""

    person_id: Id
    reason: Reason


class RevealMember(Command[Unmasked], action="gateway.privacy.reveal_member"):
    """The number of a member of one's own enterprise in clear."""

    person_id: Id
    reason: Reason


class ListReasons(Command[list[ReasonGiven]], action="gateway.privacy.reasons"):
    """For the bank's auditors: who looked at or did something about a person, and why."""

    person_id: Id
