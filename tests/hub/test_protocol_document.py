"""docs/protocol.md is the norm, so what it shows must be so: the worked session, the digest, the tables of numbers."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hub.client import chain
from hub.streams import rules
from hub.wire import codec, limits
from hub.wire.close import Bye
from hub.wire.frames import BadFrame, Op

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
SESSION = re.findall(
    r"The (client|server) [^\n]*:\n\n```json\n(.+?)\n```\n```msgpack\n(.+?)\n```", TEXT, re.DOTALL
)


def block(name: str) -> bytes:
    found = re.search(rf"```{name}\n([0-9a-f\s]+?)\n```", TEXT)
    assert found is not None, name
    return bytes.fromhex(found[1].replace("\n", ""))


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda data: base64.b64encode(data).decode()))


def test_the_session_is_the_same_in_both_encodings() -> None:
    assert len(SESSION) == 12
    for _, text, packed in SESSION:
        data = bytes.fromhex(packed.replace("\n", ""))
        assert as_json(msgpack.unpackb(data)) == json.loads(text)


@pytest.mark.parametrize("text", [True, False])
def test_the_hub_understands_the_client_of_the_document(text: bool) -> None:
    for who, in_json, packed in SESSION:
        if who == "client":
            payload = in_json.encode() if text else bytes.fromhex(packed.replace("\n", ""))
            for frame in codec.decode(payload, text=text):
                assert not isinstance(frame, BadFrame), frame


def test_the_digest_follows_on_both_sides() -> None:
    ((entry,),) = (json.loads(text) for _, text, _ in SESSION if json.loads(text)[0][0] == 7)
    stream, seq, entry_id, sender, kind, time_ms, body, digest, options = entry[2:]
    assert chain.canonical([kind, body, options]) == block("digest-content")
    content = rules.content_digest(kind, codec.pack(body), codec.pack(options))
    assert content == block("digest-content-sm3") == chain.sm3(block("digest-content"))
    made = rules.chain_digest(
        rules.EMPTY_DIGEST, int(stream), seq, int(entry_id), int(sender), time_ms, content
    )
    assert made == block("digest") == base64.b64decode(digest)
    assert made == chain.sm3(bytes(32) + block("digest-numbers") + content)


def test_every_frame_and_close_code_is_in_its_table() -> None:
    for op in Op:
        assert re.search(rf"^\| (13, )?{op.value}(, 14)? \|.*\b{op.name}\b", TEXT, re.MULTILINE), op
    for code in Bye:
        row = re.search(rf"^\| {code.value} \|.*\| (yes|no)[^|]*\|$", TEXT, re.MULTILINE)
        assert row is not None, code
        assert (row[1] == "yes") is code.reconnect


def test_the_limits_are_the_hubs() -> None:
    defaults = limits.Limits()
    for line in (
        f"| frame | {limits.FRAME_BYTES >> 10} KiB |",
        f"| {limits.MESSAGE_BYTES >> 10} KiB; {limits.GREETING_BYTES >> 10} KiB before WELCOME |",
        f"| frames in a message | {limits.FRAMES_PER_MESSAGE} |",
        f"| {defaults.frames_per_s:.0f}/s, burst {defaults.frames_burst:.0f} |",
        f"after {defaults.refusals_before_bye} refusals 4013",
        f"| {defaults.sends_per_s:.0f}/s, burst {defaults.sends_burst:.0f} |",
        f"| CALLs and SYNCs unanswered | {defaults.calls_in_flight} |",
        f"| streams in `resume` | {limits.RESUME_STREAMS:,} |",
        f"| depth of a body | {limits.BODY_DEPTH} |",
        f"| devices of a person on a node | {defaults.connections_per_person} |",
        f"| HELLO after the TCP connection | {defaults.hello_s:.0f} s |",
        f"| connections of one address before their HELLO is accepted | {defaults.undecided_per_source} |",
        f"at most {limits.PAGE_ENTRIES}), at {limits.PAGE_BYTES >> 10} KiB",
    ):
        assert line in " ".join(TEXT.split()), line
    for name in defaults.told():
        assert f"`{name}`" in TEXT
