"""The security requirements that this repository answers for, each with the figures that it asks for.

A test names those it holds: ``@pytest.mark.requirement("S03", "S04")``; a whole module: ``pytestmark = ...``. The run
of the whole suite writes `docs/security.md` from them (`tests.security.matrix`).

The sentences are what is required and are not reworded until they fit what there is. Where something is met in another
form, only in part, or not at all, `FORM` says so, with the decision that says why. Figures are the required defaults; a
bank sets others, and tests read the settings.
"""

from __future__ import annotations

from typing import Final

GROUPS: Final = {
    "S": "Sessions, identity, devices",
    "T": "Integrity of commands",
    "A": "Access and tenants",
    "W": "The WebSocket and HTTP surface",
    "F": "Files",
    "D": "Data, audit, cryptography, operation",
}

REQUIREMENTS: Final = {
    "S01": "Session tokens have at least 128 bits from a secure source, are references, and are stored as "
    "digests only.",
    "S02": "A login and a step-up make a new token; the old one ends at once, on an open WebSocket within 1 s.",
    "S03": "Sessions end when idle (10 min on the web, 15 min on a phone) and in any case after 12 h; the "
    "server sees to it over HTTP and on an open socket, to the second.",
    "S04": "Logout, disabling, another password or device end all sessions on all hub nodes within 2 s; within"
    " 30 s without the bus.",
    "S05": "A WebSocket comes in by a ticket: single use, 30 s, bound to session, device and node audience; "
    "never in a URL that is logged.",
    "S06": "The device has a key pair (SM2 or P-256) and signs a challenge at every connect; a copied token is"
    " worth nothing without the key.",
    "S07": "A new device needs a second factor, is told to the old one, and has reduced limits for 24 h.",
    "S08": "Logins are locked after 5 failures in 30 min of an account and 50 of a source; same body, status "
    "and time (10 %) for an unknown user and a wrong password.",
    "S09": "One-time codes have 6 digits, live 120 s, take 3 tries and one use, and are bound to payee and "
    "amount, which the text names.",
    "S10": "Requests to approve are limited (3 open of one initiator to one approver in 5 min); high risk asks"
    " to match a number.",
    "S11": "Passwords are hashed slowly with a salt of each user's own, travel encrypted with a one-time key, "
    "and are never logged.",
    "T01": "Every command about money or approval carries id, nonce, time, sequence, digest of its body, and a"
    " signature over a canonical form that holds what the user saw; any changed byte is refused.",
    "T02": "Replay: the same id and body get the first answer, another body is refused, so are a used nonce "
    "and a clock off by more than 5 min; also over restarts and an emptied cache.",
    "T03": "The record of a signature (message, certificate, time, algorithm) is kept and can be verified "
    "again offline, years later.",
    "T04": "Before a transfer over the limit, a new payee, another limit or device comes a step-up: for that "
    "one action, for 5 min at most.",
    "T05": "Nobody approves what he made, not through delegation or another role either; N of M holds when all"
    " press at once.",
    "T06": "A state machine can neither skip nor repeat a step.",
    "T07": "The right to approve is read again where it is used, in the same transaction.",
    "T08": "Amounts are decimal; exponents, NaN, more than 2 decimals, negative ones, other digits and 10^30 "
    "are refused.",
    "T09": "Any failure on the way of money leaves nothing half done.",
    "A01": "Every route and frame type declares a permission; an undeclared one does not start.",
    "A02": "For every parameter that is an id: another user's, department's, tenant's, a deleted and a guessed"
    " one get the same 404.",
    "A03": "The tenant comes from the session only, and every SQL statement carries it.",
    "A04": "Answers are filtered by tag and role; unknown fields of a request are refused.",
    "A05": "Subscriptions, history, search, files, exports and previews all ask the same policy.",
    "A06": "The administration of the bank has another port and another audience; destructive acts take two "
    "persons.",
    "W01": "Origin allow-list at the handshake; missing only for a native client with its device's proof.",
    "W02": "A frame has 64 KiB, a message 256 KiB, in 64 fragments at most; compression is limited or off: a "
    "bomb of 1,000 : 1 costs less than 8 MiB.",
    "W03": "The WebSocket speaks RFC 6455: Autobahn finds nothing but what is on a written list.",
    "W04": "Not authenticated within 5 s: closed; 20 pending per source.",
    "W05": "Rate limits per session, user, source and tenant, the same on all nodes; the answer says when to "
    "retry; under 10 times the load the others' p99 is less than twice as long.",
    "W06": "A slow reader has a bounded queue (1 MiB at most), then is closed with a code that says to resume.",
    "W07": "Slow heads, slow bodies and slow readers, through nginx and direct: the service is available, no "
    "socket is kept over 10 s.",
    "W08": "Random bytes and mutated frames never end a worker.",
    "W09": "Smuggled requests, two Hosts, forged X-Forwarded-* and X-Real-IP are refused or without effect; "
    "the audit has the right address.",
    "W10": "CSP without unsafe-*, frame-ancestors, nosniff, HSTS, referrer, COOP, no-store on data; cookies "
    "__Host-, HttpOnly, SameSite.",
    "W11": "No script comes of what people write: message text, names, file names, card JSON, markdown, links;"
    " 150 payloads in a real browser, no dialog and no CSP report.",
    "W12": "Errors tell a trace id; no stack, SQL or version.",
    "F01": "Files are on a list by extension and by content; what differs, and what is two things at once, is "
    "refused.",
    "F02": "Archives and OOXML: entries, inflated size, depth, links and paths are checked before inflating.",
    "F03": "Size and quota hold while a file streams, not after.",
    "F04": "Quarantine, scan, release; without a scanner a file stays in quarantine.",
    "F05": "Presigned URLs: 5 min at most, one object, one method, fixed length and type; a random key.",
    "F06": "Served from another host name with attachment and a CSP sandbox; images encoded anew, without "
    "EXIF, limited in pixels.",
    "D01": "Every column and field of a frame has a class; C3 never leaves or is stored in clear, C2 is masked"
    " by default, unmasking is a logged action.",
    "D02": "Columns are encrypted with SM4-GCM, with the key's id and bound to their row; keys turn without a "
    "stop.",
    "D03": "The audit is append-only, an SM3 chain, its head signed with SM2 every 60 s and exported; any "
    "edit, removal, insertion, reordering or truncation is found.",
    "D04": "All events of authentication, access, approval, unmasking, administration and settings are logged "
    "with who, what, when, where, result and trace id; line ends and ANSI do no harm.",
    "D05": "Secrets come from files or a KMS only; a default or readable one stops the start; none in images, "
    "dumps, the repository or logs.",
    "D06": "TLS 1.2 and newer with AEAD outside, mTLS inside; a wrong certificate is refused on every link.",
    "D07": "Dependencies are pinned by hash; there is an SBOM; no finding of bandit (high) and of the house's "
    "rules.",
}

FORM: Final = {
    "S01": "Refresh tokens, tickets and codes as required. Access tokens are signed (ES256, 10 min) and not "
    "references: decision 7.",
    "S02": "As required for refresh tokens and for keys. A step-up makes no stronger token: it is good for one"
    " call: decision 17.",
    "S03": "In other figures: 7 days idle and 30 in all where the session is bound to a device's key, 30 min "
    "and 12 h where it is not (session_*_s sets them); idle means not refreshed, to the second on "
    "sockets: decision 18.",
    "S05": "In another form, and in part. There is no ticket: HELLO shows the access token (10 min, of this "
    "session and device) and, where it is bound to a key, a DPoP proof: used once, 60 s (dpop_age_s), "
    "signed by the device for HELLO at this address, which is the hub's, not one node's: decision 11. A"
    " bearer session (bearer_sessions) has no such proof, so its token may be used again while it "
    "lives. A token in a URL is not looked at.",
    "S06": "The proof is signed over time and a name of its own, used once, not over a challenge of ours: "
    "decision 11.",
    "S07": "For device_new_s (24 h) the signature of a new device confirms nothing; there are no limits of money yet.",
    "S08": "Slowed down, not locked: 5 failures are free, then 2 s doubling to 15 min, for account with source"
    " or known device: a lock would be an invitation to lock others out: decision 7.",
    "S09": "As required; bound to a purpose, a phone and an object. Payee and amount come with payments.",
    "S10": "Not yet: there are no approvals.",
    "S11": "argon2id. Passwords travel inside TLS, without a one-time key of their own.",
    "T01": "For calls that ask for a step-up (message, nonce, time, session, digest, lines shown): decision "
    "17. Payments and approvals are not there yet.",
    "T02": "Idempotency keys and nonces as required; proofs are refused after 60 s rather than 5 min.",
    "T03": "With the device's public key in the place of a certificate.",
    "T04": "As required for what is there: phones, factors, devices, roles, staff: decision 17. Payments are "
    "not there yet.",
    "T05": "Two persons for decisions of the bank: decision 15. Approvals of enterprises, delegation and N of "
    "M are not there yet; the rule that the maker is somebody else is.",
    "T07": "For every right, in the transaction of the write: decision 10. Approvals are not there yet.",
    "T08": "Not yet: no action takes an amount of money.",
    "T09": "For what there is: messages, events, audit. There is no money yet.",
    "A01": "Actions, which are also all that a CALL can name. Other frames need membership of the stream: "
    "hub/node.",
    "A03": "By a statement checker, on PostgreSQL as on DM8; no row-level security.",
    "A05": "Messages, history, people, exports, webhooks and files. Search and push are not there yet.",
    "A06": "In part. A realm of its own, which no enterprise's role reaches, with a second factor at every "
    "call; two persons let enterprises in, enable people and decide contracts: decision 15. Not met: it"
    " has the same port and the same audience as everybody; disabling somebody and staff.* take one "
    "person.",
    "W01": "Origins are compared whole. In part: a client without Origin comes in without a device's proof "
    "where bearer_sessions are on, because it is no browser and has no ambient credentials.",
    "W02": "Compression is off.",
    "W03": "By tables of our own; Autobahn is not part of the suite.",
    "W05": "Per person, device, address and action, and for HELLO; with Retry-After or retry_ms: decision 9. "
    "Not met: there is no limit per tenant, and the p99 of others under overload is not measured by a "
    "test.",
    "W08": "By tables and fuzzing of seconds; 10^6 mutated frames are not part of the suite.",
    "W11": "In part: names and titles on the pages of the provider, which are all the pages there are. No "
    "browser, and no 150 payloads, for messages: there is no client that shows them.",
    "F06": "Another host is a setting (files_public_url). Pictures are made anew; films keep their metadata, which "
    "docs/files.md says.",
    "D03": "Sealed once a second (audit_chain_s) rather than once a minute: decision 12.",
    "D05": "As required at the start and in logs; images and dumps are not scanned.",
    "D06": "Outside: the proxy of deploy/dmz, not tested here. Inside: the embedded engines' certificates; no "
    "mTLS between our own processes, which show signed tokens.",
    "D07": "Pinned by hash (requirements.lock), the house's rules by ./bankhub check. No SBOM, no bandit.",
}
"""What is met in another form, in part, or not yet. What is not here is met as it is written."""
