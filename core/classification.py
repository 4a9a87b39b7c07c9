"""How much harm a piece of data does in the wrong hands (JR/T 0171-2020): every column and every field has a class.

    C3  authenticates somebody: passwords, codes, tokens, keys. Never stored or shown in clear, never in a log.
    C2  tells who somebody is or what somebody does or has: masked by default, unmasking is an audited action.
    C1  ours: ids, times, states, counts. Not for the public, of no use against a person.

A name means the same everywhere; where it does not, `SCOPED` says so for one table or model. A new name is added here
by whoever adds the column or field: a test refuses what has no class. Logs blank what is not C1 by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Class(StrEnum):
    """See the module."""

    C1 = "C1"
    C2 = "C2"
    C3 = "C3"


C3_NAMES: Final = frozenset(
    """
    access_token bridge_token client_secret cookie factor id_token old_password password password_hash recovery_codes
    refresh_token sealed secret secret_sealed ticket token
    """.split()
)
C2_NAMES: Final = frozenset(
    """
    account_no account_tail address answer body current_value data device facts fields full_name legal_person
    lines login login_hint login_name members message message_sealed name new_value old_value options parameters
    params peer people person phone phone_index phone_sealed platform preview readers request result_sealed
    title url
    """.split()
)
C1_NAMES: Final = frozenset(
    """
    accept acr action active added after agreed agreement algorithm amount_fen amr api app applied_by asked
    assignable attempts auth_method backchannel_uri before blocked_until built_in business_date by by_code bytes
    challenge changed_by cleaned code consumer contracted conversations created_by credit_code current days
    decided_by decision declared_type dedupe_key delivered departments devices digest document duplicate edge
    enabled ended_why enterprise enterprise_files enterprises entries epoch error etag event event_name events
    expires exported_no failing_since failures files floor grants guarded head heads history holder identity
    inline installed_by is_head jkt jwks key key_version kind last last_no last_number last_step lease_holder
    leased_until level limit link logout_uris mac machine made_id media_type member member_count member_role
    members_version mentions method money_related more multipart must_ack new next next_part nonce numbers
    offered offset order_key order_no origin outcome own own_key owner owners part part_no permission
    permissions person_files phone_index_key phone_key point position previous previous_until prompt proof
    proposed proposed_by published purpose reach read reason recovery_left redirect redirect_uri redirect_uris
    registered removed reply_to resource_server risk role roles runs scanned scope scopes seal_no second_factor
    secret_key secret_no sector sent seq sessions sha256 signature signed_by sm3 sms stage state status step
    summary suspended tail_epoch totp traceparent transfer tries unread upload upload_key uses uses_max variant
    variants version visible way ways why worker wrapped_key
    """.split()
)
C1_ENDINGS: Final = ("_id", "_ids", "_at", "_by", "_bytes", "_ms", "_s", "_digest", "_seq")
"""Technical by construction: ids of ours, lengths of time and of data, keyed digests and such of 128 random bits."""

SCOPED: Final[Mapping[str, Class]] = {
    "NewInvitation.code": Class.C3,
    "NewTotp.uri": Class.C3,  # the secret is in it
    "NewInvitation.link": Class.C3,
    "Shown.redirect": Class.C3,  # carries an authorization code
    "SignedIn.redirect": Class.C3,
    "Department.members": Class.C1,  # how many
    "EnterpriseInfo.members": Class.C1,
    "RoleInfo.members": Class.C1,
    "PartAddress.number": Class.C1,  # which part
    "ArchiveEntry.size": Class.C1,
    "ArchiveEntry.folder": Class.C1,  # whether it is one
    "gateway_reasons.reason": Class.C2,  # words of the staff about a person
    "gateway_applications.reason": Class.C2,
    "gateway_contracts.reason": Class.C2,
    "JoinRequest.message": Class.C2,
}


def classify(owner: str, name: str) -> Class | None:
    """The class of a column (`owner` is its table) or a field (`owner` is its model); None: nobody has said."""
    scoped = SCOPED.get(f"{owner}.{name}")
    return scoped if scoped is not None else by_name(name)


def by_name(name: str) -> Class | None:
    """The class of whatever has this name."""
    if name in C3_NAMES:
        return Class.C3
    if name in C2_NAMES:
        return Class.C2
    return Class.C1 if name in C1_NAMES or name.endswith(C1_ENDINGS) else None
