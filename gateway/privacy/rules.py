"""What is forgotten of a person and what is kept, decided without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FORGOTTEN: Final = "已注销用户"
"""The name of who has been erased."""

COPIED: Final = frozenset(
    """
    core_audit gateway_app_grants gateway_applications gateway_consents gateway_department_members gateway_devices
    gateway_join_requests gateway_member_roles gateway_memberships gateway_people gateway_sessions
    """.split()
)
"""Tables about people that a copy of one's data is made of."""

CLEARED: Final = frozenset(
    """
    gateway_app_browsers gateway_applications gateway_department_members gateway_devices gateway_join_requests
    gateway_login_tickets gateway_member_roles gateway_memberships gateway_people gateway_privacy_tasks
    gateway_recovery_codes gateway_sessions gateway_totp
    """.split()
)
"""Tables that erasure deletes from or blanks; memberships and requests keep their ids, states and times."""

KEPT: Final[Mapping[str, str]] = {
    "core_evidence": "what somebody confirmed is evidence; its message is sealed (电子签名法 6, 13)",
    "core_stepups": "gone a day after it expired, sealed until then",
    "core_audit": "the record of who did what is kept by law, under the id alone (网络安全法 21, 反洗钱法)",
    "core_idempotency": "answers to requests, gone by themselves after idempotency_retention_s",
    "files_files": "what somebody sent at work belongs to the enterprise, under the id alone",
    "files_uploads": "ids, sizes and names of files under way; gone within days",
    "files_usage": "how much room is taken: numbers",
    "gateway_app_families": "which app held tokens when: ids and times, part of the audit trail",
    "gateway_app_grants": "which app was allowed what: ids and times, part of the audit trail",
    "gateway_consents": "the proof that somebody agreed: id, version, time",
    "gateway_reasons": "what the bank's staff did and why; its person_id is the staff's",
    "hub_inboxes": "ids and watermarks; nothing reads it once nobody logs in",
    "hub_subscriptions": "ids and watermarks of conversations; the membership there ends with the enterprise's",
    "im_members": "who was in a conversation: its record belongs to the enterprise, under the id alone",
}
"""Tables with a person's id that erasure leaves, and why: the id stands for nobody then."""
