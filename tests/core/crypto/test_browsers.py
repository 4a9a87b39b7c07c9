"""What a browser does with sm-crypto-v2 is what we do: both ways, signatures raw and DER."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.crypto import encodings, sm2, sm4
from core.crypto.sm3 import hmac_sm3, sm3

HERE = Path(__file__).parent / "node"
Ask = Callable[[list[dict[str, Any]]], list[Any]]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Answers requests by sm-crypto-v2 under Node; installed from the lock beside it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("sm-crypto-v2 is not compared with: no node or npm is here")
    place = tmp_path_factory.mktemp("node") / "crypto"
    shutil.copytree(HERE, place)
    argv = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    made = subprocess.run(argv, cwd=place, capture_output=True, text=True, timeout=90, check=False)
    if made.returncode:
        pytest.skip(f"sm-crypto-v2 is not compared with: npm ci failed: {made.stderr[-200:]}")

    def ask(requests: list[dict[str, Any]]) -> list[Any]:
        plain = [{k: v.hex() if isinstance(v, bytes) else v for k, v in one.items()} for one in requests]
        environ = {**os.environ, "NODE_OPTIONS": ""}
        argv = [str(node), "answer.js"]
        done = subprocess.run(
            argv,
            cwd=place,
            env=environ,
            input=json.dumps(plain),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        answers: list[Any] = json.loads(done.stdout)
        return answers

    return ask


def _messages(count: int) -> list[bytes]:
    random = Random(7)
    return [
        random.randbytes(size)
        for size in (1, 55, 56, 63, 64, 65, *(random.randrange(1, 300) for _ in range(count)))
    ]


def test_digests_are_the_same(browser: Ask) -> None:
    messages = _messages(20)
    assert browser([{"verb": "sm3", "data": m} for m in messages]) == [sm3(m).hex() for m in messages]
    keyed = browser([{"verb": "hmac", "key": b"a key", "data": m} for m in messages])
    assert keyed == [hmac_sm3(b"a key", m).hex() for m in messages]


@pytest.mark.parametrize("der", [False, True])
@pytest.mark.parametrize("user_id", ["1234567812345678", "ALICE123@YAHOO.COM"])
def test_signatures_of_a_browser_are_verified_here_and_ours_there(
    browser: Ask, der: bool, user_id: str
) -> None:
    messages, name = _messages(20), user_id.encode()
    (pair,) = browser([{"verb": "generate"}])
    point = bytes.fromhex(pair["publicKey"])
    ours = sm2.PrivateKey.of(bytes.fromhex(pair["privateKey"]))
    assert ours.point == point
    theirs = browser(
        [{"verb": "sign", "key": pair["privateKey"], "data": m, "id": user_id, "der": der} for m in messages]
    )
    for message, made in zip(messages, theirs, strict=True):
        signature = bytes.fromhex(made)
        raw = encodings.signature_from_der(signature) if der else signature
        assert sm2.verify(point, message, raw, name)
        assert not sm2.verify(point, message + b".", raw, name)
    requests = []
    for message in messages:
        raw = sm2.sign(ours, message, name)
        shown = encodings.signature_to_der(raw) if der else raw
        given = {"verb": "verify", "point": point, "signature": shown, "id": user_id, "der": der}
        requests += [{**given, "data": message}, {**given, "data": message + b"."}]
    assert browser(requests) == [True, False] * len(messages)


def test_ciphertexts_open_on_the_other_side(browser: Ask) -> None:
    key = sm2.generate()
    messages = [m[:255] for m in _messages(10)]
    theirs = browser([{"verb": "encrypt", "point": key.point, "data": m} for m in messages])
    for message, made in zip(messages, theirs, strict=True):
        whole = made if made.startswith("04") and len(made) == 2 * (97 + len(message)) else "04" + made
        assert sm2.decrypt(key, bytes.fromhex(whole)) == message
    sealed = [sm2.encrypt(key.point, m) for m in messages]
    opened = browser([{"verb": "decrypt", "key": key.private, "data": c[1:]} for c in sealed])
    assert opened == [m.hex() for m in messages]


def test_gcm_is_the_same(browser: Ask) -> None:
    key, nonce, aad = bytes(range(16)), bytes(range(12)), b"row 5"
    messages = _messages(10)
    theirs = browser([{"verb": "seal", "key": key, "nonce": nonce, "data": m, "aad": aad} for m in messages])
    assert theirs == [sm4.seal(key, nonce, m, aad).hex() for m in messages]
