"""One acceptable call of every action there is, and whose objects it touches.

The generated tests call each as every role, as a colleague who has nothing to do with the objects, and as another
tenant. An action that is not here fails `test_every_action_has_an_example`: add it in the same change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gateway.identity.rules import credit_code_check_digit

Fields = dict[str, Any]


@dataclass(frozen=True)
class Tenant:
    """One enterprise with an object of every kind. All of it belongs to `owner`."""

    enterprise_id: int
    owner: str  # login of who owns the objects
    owner_id: int
    colleague_id: int  # who is in the conversation with the owner
    victim_id: int  # a member who may be removed
    department_id: int
    application_id: int  # of the owner, for another enterprise
    request_id: int  # of a stranger who wants to join
    invitation_id: int  # open
    task_id: int  # a copy that the owner asked for
    session_id: int  # of the owner
    conversation_id: int  # a group of owner and colleague with a message at seq `seq`
    seq: int
    canary: str  # in every text of this tenant
    password: str  # of the owner
    role_id: int  # of an own role that nobody has
    app_id: int  # an app of the enterprise, installed there
    grant_id: int  # what the owner has allowed that app
    webhook_id: int  # of the enterprise
    delivery_id: int  # to that webhook
    file_id: int  # of the owner, attached to nothing
    upload_id: int  # of the owner, begun
    hold_id: int  # in force


@dataclass(frozen=True)
class Example:
    """`fields` of a call on `tenant`'s objects.

    `outsider` says what a colleague who is not concerned gets: a refusal, or (because the action is about oneself or
    about what every colleague may see) an answer.
    """

    fields: Callable[[Tenant], Fields]
    outsider: Literal["refused", "answered"] = "refused"


def _none(tenant: Tenant) -> Fields:
    return {}


def _conversation(**more: Any) -> Callable[[Tenant], Fields]:
    return lambda tenant: {"conversation_id": str(tenant.conversation_id)} | more


_DIGEST = "A" * 43 + "="  # 32 bytes
_PROOF: Fields = {"method": "none", "client_id": "1"}
_NEW_APP: Fields = {
    "title": "x",
    "auth_method": "none",
    "redirect_uris": ["https://app.example/cb"],
    "scopes": ["openid"],
}

_CODE = "91410105MA0QH0009" + credit_code_check_digit("91410105MA0QH0009")


EXAMPLES: dict[str, Example] = {
    # gateway
    "gateway.identity.login": Example(
        lambda t: {"login": t.owner, "password": t.password, "device": "example"}, "answered"
    ),
    "gateway.codes.send": Example(lambda t: {"phone": "13899990001", "purpose": "login"}, "answered"),
    "gateway.registration.login": Example(
        lambda t: {"phone": "13899990002", "ticket": "-" * 43, "code": "000000", "device": "example"}
    ),
    "gateway.registration.agreement": Example(_none, "answered"),
    "gateway.registration.complete": Example(
        lambda t: {"name": "张三", "password": "a good long one", "agreement": "2026-11"}, "answered"
    ),
    "gateway.registration.reset_password": Example(
        lambda t: {
            "phone": "13899990003",
            "ticket": "-" * 43,
            "code": "000000",
            "password": "a good long one",
        }
    ),
    "gateway.registration.change_password": Example(
        lambda t: {"old_password": "not the owner's", "password": "a good long one"}
    ),
    "gateway.registration.send_phone_code": Example(lambda t: {"phone": "13899990004"}, "answered"),
    "gateway.registration.change_phone": Example(
        lambda t: {"phone": "13899990005", "code": "000000", "password": t.password}
    ),
    "gateway.identity.change_member": Example(
        lambda t: {"person_id": str(t.victim_id), "title": "组长"}, "answered"
    ),
    "gateway.identity.leave": Example(_none, "answered"),
    "gateway.departments.list": Example(_none, "answered"),
    "gateway.departments.create": Example(lambda t: {"name": "新部门"}, "answered"),
    "gateway.departments.change": Example(lambda t: {"department_id": str(t.department_id), "name": "改名"}),
    "gateway.departments.delete": Example(lambda t: {"department_id": str(t.department_id)}),
    "gateway.enterprises.apply": Example(lambda t: {"name": "新来的企业", "credit_code": _CODE}, "answered"),
    "gateway.enterprises.my_applications": Example(_none, "answered"),
    "gateway.enterprises.applications": Example(_none),
    "gateway.enterprises.decide": Example(
        lambda t: {"application_id": str(t.application_id), "decision": "verify"}
    ),
    "gateway.enterprises.list": Example(_none),
    "gateway.enterprises.find": Example(lambda t: {"credit_code": _CODE}),
    "gateway.enterprises.ask_to_join": Example(lambda t: {"credit_code": _CODE}),
    "gateway.enterprises.join_requests": Example(_none, "answered"),
    "gateway.enterprises.decide_join": Example(lambda t: {"request_id": str(t.request_id), "accept": True}),
    "gateway.contracts.apply": Example(
        lambda t: {"account_no": "622202000000006688", "legal_person": "张伟"}, "answered"
    ),
    "gateway.contracts.sign": Example(lambda t: {"agreement": "2026-11"}, "answered"),
    "gateway.contracts.mine": Example(_none, "answered"),
    "gateway.contracts.list": Example(_none),
    "gateway.contracts.decide": Example(
        lambda t: {"enterprise_id": str(t.enterprise_id), "decision": "suspend", "reason": "example"}
    ),
    "gateway.invitations.create": Example(_none, "answered"),
    "gateway.invitations.list": Example(_none, "answered"),
    "gateway.invitations.revoke": Example(lambda t: {"invitation_id": str(t.invitation_id)}),
    "gateway.invitations.look": Example(lambda t: {"code": "ABCD-EFGH-JKMN"}),
    "gateway.invitations.accept": Example(lambda t: {"code": "ABCD-EFGH-JKMN"}),
    "gateway.people.find": Example(lambda t: {"person_id": str(t.owner_id)}),
    "gateway.people.disable": Example(lambda t: {"person_id": str(t.owner_id), "reason": "example"}),
    "gateway.people.enable": Example(lambda t: {"person_id": str(t.owner_id), "reason": "example"}),
    "gateway.people.forget_factors": Example(lambda t: {"person_id": str(t.owner_id), "reason": "example"}),
    "gateway.people.end_sessions": Example(lambda t: {"person_id": str(t.owner_id), "reason": "example"}),
    "gateway.staff.list": Example(_none),
    "gateway.staff.add": Example(
        lambda t: {"phone": "13899990009", "name": "新来的", "roles": ["bank_operator"]}
    ),
    "gateway.staff.change": Example(lambda t: {"person_id": str(t.owner_id), "roles": ["bank_operator"]}),
    "gateway.staff.end": Example(lambda t: {"person_id": str(t.owner_id)}),
    "gateway.privacy.unmask": Example(lambda t: {"person_id": str(t.owner_id), "reason": "example"}),
    "gateway.privacy.reveal_member": Example(lambda t: {"person_id": str(t.owner_id), "reason": "example"}),
    "gateway.privacy.reasons": Example(lambda t: {"person_id": str(t.owner_id)}),
    "gateway.privacy.request_export": Example(_none, "answered"),
    "gateway.privacy.tasks": Example(_none, "answered"),
    "gateway.privacy.fetch_export": Example(lambda t: {"task_id": str(t.task_id)}),
    "gateway.privacy.erase": Example(_none, "answered"),
    "gateway.identity.refresh": Example(lambda t: {"refresh_token": "x" * 43, "device": "example"}),
    "gateway.identity.logout": Example(_none, "answered"),
    "gateway.identity.me": Example(_none, "answered"),
    "gateway.identity.switch_enterprise": Example(
        lambda t: {"enterprise_id": str(t.enterprise_id)}, "answered"
    ),
    "gateway.identity.list_members": Example(_none, "answered"),
    "gateway.identity.add_member": Example(
        lambda t: {
            "phone": "13899990000",
            "name": "新来的",
            "roles": ["employee"],
        },
        "answered",
    ),
    "gateway.identity.end_membership": Example(lambda t: {"person_id": str(t.victim_id)}, "answered"),
    "gateway.identity.list_sessions": Example(_none, "answered"),
    "gateway.identity.revoke_session": Example(lambda t: {"session_id": str(t.session_id)}),
    "gateway.identity.names": Example(lambda t: {"person_ids": [str(t.owner_id)]}, "answered"),
    "gateway.identity.find_members": Example(lambda t: {"person_ids": [str(t.owner_id)]}),
    "gateway.factors.show": Example(_none, "answered"),
    "gateway.factors.enrol": Example(_none, "answered"),
    "gateway.factors.confirm": Example(lambda t: {"code": "123456"}),
    "gateway.factors.remove": Example(_none),
    "gateway.factors.renew_recovery_codes": Example(_none, "answered"),
    "gateway.factors.send_login_code": Example(lambda t: {"ticket": "x" * 43, "device": "example"}),
    "gateway.factors.complete_login": Example(
        lambda t: {"ticket": "x" * 43, "way": "totp", "code": "123456", "device": "example"}
    ),
    "gateway.stepup.begin": Example(
        lambda t: {"action": "gateway.access.create_role", "fields": {"name": "门店", "grants": []}},
        "answered",
    ),
    "gateway.stepup.send_code": Example(lambda t: {"challenge_id": "1"}),
    "gateway.stepup.prove": Example(lambda t: {"challenge_id": "1", "way": "sms", "code": "123456"}),
    "gateway.devices.list": Example(_none, "answered"),
    "gateway.devices.send_code": Example(_none),
    "gateway.devices.bind": Example(lambda t: {"name": "x", "code": "123456"}),
    "gateway.devices.rename": Example(lambda t: {"jkt": "A" * 43, "name": "x"}),
    "gateway.devices.revoke": Example(lambda t: {"jkt": "A" * 43}),
    "gateway.access.permissions": Example(_none, "answered"),
    "gateway.access.mine": Example(_none, "answered"),
    "gateway.access.roles": Example(_none),
    "gateway.access.create_role": Example(
        lambda t: {"name": "门店", "grants": [{"permission": "contacts:read"}]}
    ),
    "gateway.access.change_role": Example(
        lambda t: {"role_id": str(t.role_id), "name": "改名", "grants": [{"permission": "messages:send"}]}
    ),
    "gateway.access.delete_role": Example(lambda t: {"role_id": str(t.role_id)}),
    # hub
    "hub.sessions.close": Example(
        lambda t: {
            "person_id": str(t.owner_id),
            "enterprise_id": str(t.enterprise_id),
            "code": 4512,
            "reason": "x",
        }
    ),
    "gateway.apps.register": Example(lambda t: _NEW_APP),
    "gateway.apps.register_own": Example(lambda t: _NEW_APP),
    "gateway.apps.suspend": Example(lambda t: {"app_id": str(t.app_id)}),
    "gateway.apps.change": Example(
        lambda t: {"app_id": str(t.app_id), "redirect_uris": ["https://app.example/other"]}
    ),
    "gateway.apps.renew_secret": Example(lambda t: {"app_id": str(t.app_id)}),
    "gateway.apps.list": Example(_none),
    "gateway.apps.install": Example(lambda t: {"app_id": str(t.app_id), "scopes": ["openid"]}),
    "gateway.apps.uninstall": Example(lambda t: {"app_id": str(t.app_id)}),
    "gateway.apps.installations": Example(_none),
    "gateway.apps.grants": Example(_none, "answered"),
    "gateway.apps.revoke_grant": Example(lambda t: {"grant_id": str(t.grant_id)}),
    "gateway.apps.sign_in": Example(
        lambda t: {
            "parameters": {
                "client_id": str(t.app_id),
                "redirect_uri": "https://app.example/cb",
                "response_type": "code",
                "scope": "openid",
                "nonce": "n",
                "code_challenge": "x" * 43,
                "code_challenge_method": "S256",
            }
        },
        "answered",
    ),
    "gateway.apps.check_bridge": Example(
        lambda t: {"bridge_token": "x", "origin": "https://app.example", "api": "login"}
    ),
    "gateway.oauth.push": Example(lambda t: {"proof": _PROOF, "parameters": {}}),
    "gateway.oauth.open": Example(lambda t: {"parameters": {"client_id": str(t.app_id)}, "cookie": None}),
    "gateway.oauth.proceed": Example(lambda t: {"sealed": "x", "cookie": "x" * 43, "step": "allow"}),
    "gateway.oauth.leave": Example(lambda t: {"parameters": {}, "cookie": None}),
    "gateway.oauth.exchange": Example(lambda t: {"proof": _PROOF, "parameters": {}}),
    "gateway.oauth.revoke": Example(lambda t: {"proof": _PROOF, "token": "x"}),
    "gateway.oauth.introspect": Example(lambda t: {"proof": _PROOF, "token": "x"}),
    "gateway.oauth.userinfo": Example(lambda t: {"token": "x"}),
    "gateway.oauth.begin_bridge": Example(lambda t: {"proof": _PROOF, "token": "x", "parameters": {}}),
    "gateway.webhooks.events": Example(_none),
    "gateway.webhooks.list": Example(_none),
    "gateway.webhooks.add": Example(
        lambda t: {"url": "https://hooks.example.com/x", "events": ["gateway.member_added"]}
    ),
    "gateway.webhooks.change": Example(
        lambda t: {"webhook_id": str(t.webhook_id), "url": "https://hooks.example.com/y"}
    ),
    "gateway.webhooks.renew_secret": Example(lambda t: {"webhook_id": str(t.webhook_id)}),
    "gateway.webhooks.deliveries": Example(lambda t: {"webhook_id": str(t.webhook_id)}),
    "gateway.webhooks.resend": Example(lambda t: {"delivery_id": str(t.delivery_id)}),
    "gateway.webhooks.remove": Example(lambda t: {"webhook_id": str(t.webhook_id)}),
    # files
    "files.uploads.check": Example(lambda t: {"name": "a.csv", "size_bytes": 10}, "answered"),
    "files.uploads.begin": Example(lambda t: {"name": "a.csv", "size_bytes": 10}, "answered"),
    "files.uploads.get": Example(lambda t: {"upload_id": str(t.upload_id)}),
    "files.uploads.sign_parts": Example(lambda t: {"upload_id": str(t.upload_id), "numbers": [1]}),
    "files.uploads.finish": Example(lambda t: {"upload_id": str(t.upload_id)}),
    "files.uploads.abort": Example(lambda t: {"upload_id": str(t.upload_id)}),
    "files.uploads.keep": Example(
        lambda t: {
            "object_id": "1",
            "name": "a.csv",
            "size_bytes": 10,
            "media_type": None,
            "kind": "csv",
            "sha256": _DIGEST,
            "sm3": None,
            "wrapped_key": None,
            "key": None,
        }
    ),
    "files.uploads.claim": Example(lambda t: {"upload_id": str(t.upload_id), "offset": 0}),
    "files.uploads.advance": Example(
        lambda t: {
            "upload_id": str(t.upload_id),
            "epoch": 1,
            "part": 1,
            "etag": "x",
            "size_bytes": 10,
            "tail_bytes": 0,
        }
    ),
    "files.uploads.complete": Example(
        lambda t: {"upload_id": str(t.upload_id), "epoch": 1, "kind": None, "sha256": None, "sm3": None}
    ),
    "files.uploads.end": Example(lambda t: {"upload_id": str(t.upload_id), "person_id": str(t.owner_id)}),
    "files.library.get": Example(lambda t: {"file_ids": [str(t.file_id)]}, "answered"),
    "files.library.list": Example(_none, "answered"),
    "files.library.links": Example(lambda t: {"file_ids": [str(t.file_id)]}, "answered"),
    "files.library.remove": Example(lambda t: {"file_id": str(t.file_id)}),
    "files.library.entries": Example(lambda t: {"file_id": str(t.file_id)}),
    "files.library.settle": Example(
        lambda t: {
            "file_id": str(t.file_id),
            "state": "ready",
            "reason": None,
            "kind": "csv",
            "sha256": _DIGEST,
            "size_bytes": 10,
            "facts": {},
            "cleaned": None,
            "variants": [],
            "scanned": None,
        }
    ),
    "files.library.condemn": Example(lambda t: {"content_id": "1"}),
    "files.library.settled": Example(lambda t: {"file_id": str(t.file_id), "wait_s": 0.0}),
    "files.library.locate": Example(
        lambda t: {"file_id": str(t.file_id), "variant": "original", "visible": False}
    ),
    "files.library.attach": Example(
        lambda t: {"file_ids": [str(t.file_id)], "holder": "approval", "holder_id": "1"}
    ),
    "files.library.release": Example(lambda t: {"file_ids": None, "holder": "approval", "holder_id": "1"}),
    "files.room.usage": Example(_none, "answered"),
    "files.room.policy": Example(_none),
    "files.room.set_policy": Example(lambda t: {"own_key": False}),
    "files.holds.place": Example(
        lambda t: {"kind": "file", "object_id": str(t.file_id), "reason": "example"}
    ),
    "files.holds.lift": Example(lambda t: {"hold_id": str(t.hold_id)}),
    "files.holds.list": Example(_none),
    # im
    "im.conversations.open_direct": Example(lambda t: {"person_id": str(t.owner_id)}, "answered"),
    "im.conversations.create_group": Example(
        lambda t: {"title": "x", "members": [str(t.colleague_id)]}, "answered"
    ),
    "im.conversations.list": Example(_none, "answered"),
    "im.conversations.get": Example(_conversation()),
    "im.conversations.members": Example(_conversation()),
    "im.conversations.add_members": Example(
        lambda t: {"conversation_id": str(t.conversation_id), "members": [str(t.victim_id)]}
    ),
    "im.conversations.remove_member": Example(
        lambda t: {"conversation_id": str(t.conversation_id), "person_id": str(t.colleague_id)}
    ),
    "im.conversations.rename": Example(_conversation(title="renamed")),
    "im.conversations.set_owner": Example(
        lambda t: {"conversation_id": str(t.conversation_id), "person_id": str(t.colleague_id)}
    ),
    "im.conversations.disband": Example(_conversation()),
    "im.people.remove": Example(lambda t: {"person_id": str(t.victim_id)}),
    "im.messages.send": Example(_conversation(key="example", body={"text": "hello"})),
    "im.messages.recall": Example(
        lambda t: {"conversation_id": str(t.conversation_id), "seq": t.seq, "key": "example-recall"}
    ),
    "im.messages.history": Example(_conversation()),
    "im.messages.readers": Example(lambda t: {"conversation_id": str(t.conversation_id), "seq": t.seq}),
}
