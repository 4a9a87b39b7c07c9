"""The security requirements that the tests of this repository answer for, in one sentence each.

A test names those it holds: ``@pytest.mark.requirement("S03", "S04")``; a whole module: ``pytestmark = ...``. The run
of the whole suite writes `docs/security.md` from them (`tests.security.matrix`). Every number is a setting.
"""

from __future__ import annotations

from typing import Final

GROUPS: Final = {
    "S": "Sessions, identity, devices",
    "T": "Integrity of commands",
    "A": "Access and tenants",
    "W": "The WebSocket and HTTP surface",
    "D": "Data, audit, cryptography",
}

REQUIREMENTS: Final = {
    "S01": "Tokens come from a secure source and have at least 128 bits; only digests of them are stored.",
    "S02": "A login makes new tokens; a step-up or a rotation ends the old ones at once.",
    "S03": "The server ends idle and old sessions, over HTTP and on an open hub connection.",
    "S04": "Logging out, being disabled or changing the password ends every session on every node within two seconds.",
    "S05": "What lets a connection in is bound to its session and device and stands in no logged address.",
    "S06": "A token bound to a device is worth nothing without that device's key.",
    "S07": "A new device needs a second factor, is told to the old ones, and begins with reduced rights.",
    "S08": "Guessing is slowed down for accounts and sources; unknown account and wrong password look and last alike.",
    "S09": "One-time codes are short-lived, few tries, used once, bound to what they were asked for.",
    "S10": "Nobody can flood somebody with requests to approve.",
    "S11": "Passwords are hashed slowly with a salt of their own and appear in no log, table or error.",
    "T01": "What is signed is the canonical form of what the person saw; any changed byte is refused.",
    "T02": "The same request twice has one effect; a key with another body, an old proof, a used nonce are refused.",
    "T03": "Evidence of a signature is kept and can be verified again years later.",
    "T04": "A step-up is good for one action with one content, once, for five minutes at most.",
    "T05": "Nobody approves what he made, whatever roles he takes on.",
    "T06": "A state machine can neither skip nor repeat a step.",
    "T07": "Rights are read again where they are used, in the same transaction.",
    "T08": "Amounts are plain decimals of two places; everything else is refused.",
    "T09": "A failure anywhere leaves nothing half done.",
    "A01": "Every action declares what it needs; without that it does not start.",
    "A02": "Somebody else's object, a deleted one and a guessed one get the same answer.",
    "A03": "The tenant comes from the token alone, and every statement filters by it.",
    "A04": "Unknown fields are refused; answers hold what the caller may see.",
    "A05": "Every way to the same data asks the same policy.",
    "A06": "Operations of the bank are a realm of their own, with a second factor.",
    "W01": "A page of a foreign origin gets no WebSocket and no answer.",
    "W02": "Frames, messages and fragments have limits; compression cannot multiply them.",
    "W03": "The WebSocket speaks RFC 6455.",
    "W04": "Who does not log in soon is closed; only so many may be undecided.",
    "W05": "Requests are limited per person, device, address and action, alike on all nodes.",
    "W06": "Who does not read costs bounded memory and is told when others are no longer waited for.",
    "W07": "Slow heads, slow bodies and slow readers hold nothing up.",
    "W08": "No bytes whatever end a worker.",
    "W09": "Smuggled requests and forged forwarding headers are refused or without effect.",
    "W10": "Every answer has the security headers.",
    "W11": "What people write never becomes script.",
    "W12": "Errors tell a trace id and nothing of the inside.",
    "D01": "Every column and field has a class; secrets never leave, personal data is masked by default.",
    "D02": "Encrypted columns are bound to their row; keys rotate without a stop.",
    "D03": "The audit is a sealed chain per tenant: any edit, insertion, removal or change of order is found.",
    "D04": "Every decision about access and every change is recorded, harmless to print.",
    "D05": "Secrets come from files or a key service; a default or readable one stops the start.",
}
