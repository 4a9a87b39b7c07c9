"""Keys turn without anybody noticing, stay where they belong, and are nothing to read for others."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from core.clock import ManualClock
from core.crypto import ring as rings
from core.crypto import selftest, sm4
from core.crypto.keyring import Keyring, as_line, open_keyring
from core.crypto.kms import HttpKms
from core.crypto.provider import point_of
from core.crypto.ring import AUDIT, COLUMNS, PURPOSES, SEALS, SETTLE_MS, TOKENS, Purpose, Ring
from core.errors import Conflict, Internal, Invalid, Unavailable
from core.keys import cluster_secret, read_secret
from core.rng import SeededRng
from core.settings import load
from core.tokens import AccessTokens
from tests.core.test_tokens import WHO
from tests.world import settings_for

RNG = SeededRng(1)


@given(st.lists(st.sampled_from(["rotate", "retire"]), max_size=12), st.sampled_from([COLUMNS, AUDIT]))
def test_whatever_happens_there_is_one_current_and_one_next(steps: list[str], purpose: Purpose) -> None:
    ring, now_ms = rings.completed(Ring(()), 0, RNG), 0
    for step in steps:
        now_ms += SETTLE_MS
        known = {key.version for key in ring.of(purpose)}
        if step == "rotate":
            ring = rings.rotated(ring, purpose, now_ms, RNG)
            assert ring.current(purpose).version in known, "a process that has not heard can read what is new"
        else:
            previous = [key for key in ring.of(purpose) if key.state == "previous"]
            if previous:
                ring = rings.retired(ring, purpose, previous[0].version)
        states = [key.state for key in ring.of(purpose)]
        assert states.count("current") == states.count("next") == 1
        assert rings.from_json(rings.to_json(ring)) == ring
        assert rings.completed(ring, 1, RNG) == ring


def test_a_next_key_must_be_known_everywhere_before_it_is_used() -> None:
    ring = rings.completed(Ring(()), 0, RNG)
    with pytest.raises(Conflict, match="minutes old"):
        rings.rotated(ring, COLUMNS, SETTLE_MS - 1, RNG)
    assert rings.rotated(ring, COLUMNS, 0, RNG, at_once=True).current(COLUMNS).version == 2


def test_only_previous_keys_are_retired() -> None:
    ring = rings.completed(Ring(()), 0, RNG)
    for version in (1, 2, 3):
        with pytest.raises(Conflict):
            rings.retired(ring, COLUMNS, version)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format":2,"keys":[]}', b'{"format":1,"keys":[{}]}', b"[]"])
def test_what_is_no_ring_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        rings.from_json(data)


# --- files ----------------------------------------------------------------------------------------------------


def test_a_ring_is_made_once_and_found_again(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "keys" / "ring.json"
    one, two = Keyring(path, clock), Keyring(path, clock)
    assert path.stat().st_mode & 0o777 == 0o600
    for purpose in PURPOSES.values():
        assert one.current(purpose) == two.current(purpose)
    assert len(point_of(one.current(SEALS))) == 65
    assert "material" not in repr(one.current(COLUMNS))


def test_a_ring_of_an_older_version_is_completed(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "ring.json"
    old = Ring(tuple(k for k in rings.completed(Ring(()), 0, RNG).keys if k.purpose == "tokens"))
    path.write_bytes(rings.to_json(old))
    path.chmod(0o600)
    keys = Keyring(path, clock)
    assert keys.current(TOKENS) == old.current(TOKENS)
    assert keys.current(AUDIT).version == 1


def test_a_mounted_ring_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        Keyring(tmp_path / "ring.json", ManualClock(), ours=False)
    assert not (tmp_path / "ring.json").exists()


@pytest.mark.requirement("D05")
@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o602])
def test_a_ring_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ring.json"
    Keyring(path, ManualClock())
    path.chmod(mode)
    with pytest.raises(Invalid, match="open to others"):
        Keyring(path, ManualClock())
    with pytest.raises(Invalid):
        read_secret(path)
    path.chmod(0o640)  # how Kubernetes mounts a secret for the group of a process
    Keyring(path, ManualClock())


@pytest.mark.requirement("D05")
@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "a" * 64,
        "changeme-changeme-changeme-changeme",
        "this is an example of a very long secret 123",
        "",
    ],
)
def test_a_secret_that_can_be_guessed_is_refused(tmp_path: Path, secret: str) -> None:
    with pytest.raises(Invalid, match="guessed"):
        cluster_secret(load({}, var_dir=tmp_path, cluster_secret=secret))


def test_wrong_arithmetic_gives_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(selftest.CHECKS, "SM3", lambda: False)
    with pytest.raises(Internal, match="SM3"):
        Keyring(tmp_path / "ring.json", ManualClock())


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_tokens_outlive_a_rotation_and_clients_know_the_next_key(tmp_path: Path) -> None:
    clock = ManualClock()
    settings = settings_for("postgresql://x", tmp_path, keys_file=None)
    keys = open_keyring(settings, clock)
    here, elsewhere = AccessTokens(settings, clock, keys=keys), AccessTokens(settings, clock)
    before, _ = here.sign(WHO)
    published = {key["kid"] for key in elsewhere.jwks()["keys"]}
    clock.advance(SETTLE_MS)
    keys.rotate(TOKENS)
    after, _ = here.sign(WHO)
    assert json.loads(base64.urlsafe_b64decode(after.partition(".")[0] + "=="))["kid"] in published
    assert elsewhere.verify(after).person_id == elsewhere.verify(before).person_id == 5
    assert [key["kid"] for key in here.jwks()["keys"]] == ["tokens.2", "tokens.3", "tokens.1"]
    assert all("d" not in key for key in here.jwks()["keys"])
    clock.advance(SETTLE_MS)
    keys.rotate(TOKENS)
    assert [key["kid"] for key in here.jwks()["keys"]] == ["tokens.3", "tokens.4", "tokens.2"]
    third, _ = here.sign(WHO)
    assert elsewhere.verify(third).person_id == 5, "a key it has not heard of makes it look at the file"


def test_rotations_at_once_do_not_lose_each_other(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    clock, path = ManualClock(), tmp_path / "ring.json"
    rings_here = [Keyring(path, clock) for _ in range(4)]
    clock.advance(SETTLE_MS)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda ring: ring.rotate(COLUMNS, at_once=True), rings_here))
    assert Keyring(path, clock).current(COLUMNS).version == 5


def test_a_file_that_becomes_unreadable_leaves_the_keys_as_they_are(tmp_path: Path) -> None:
    keys = Keyring(tmp_path / "ring.json", ManualClock())
    before = keys.current(COLUMNS)
    keys.path.write_bytes(b"{")
    assert not keys.refresh()
    assert keys.current(COLUMNS) == before


def test_the_inventory_says_what_is_due_and_shows_no_key(tmp_path: Path) -> None:
    clock = ManualClock()
    keys = Keyring(tmp_path / "ring.json", clock)
    assert {record.purpose for record in keys.inventory()} == set(PURPOSES)
    assert not any(record.overdue(clock.now()) for record in keys.inventory())
    clock.advance(91 * rings.DAY_MS)
    assert [r.key_id for r in keys.inventory() if r.overdue(clock.now())] == ["tokens.1"]
    shown = json.dumps([as_line(record, clock.now()) for record in keys.inventory()])
    for purpose in PURPOSES.values():
        assert base64.b64encode(keys.current(purpose).material).decode() not in shown


# --- KMS --------------------------------------------------------------------------------------------------------------


class FakeKms:
    """A KMS of ours over real HTTP: wraps with a key of its own, as the protocol in `core.crypto.kms` says."""

    def __init__(self) -> None:
        self.key, self.calls, self.down = bytes(range(16)), [], False  # type: ignore[var-annotated]
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        self.calls.append((verb, request.headers.get("Authorization")))
        if self.down:
            return web.Response(status=503)
        given = await request.json()
        if request.match_info["key"] != "bank/hub":
            return web.Response(status=404)
        if verb == "wrap":
            sealed = bytes(12) + sm4.seal(self.key, bytes(12), base64.b64decode(given["plaintext"]))
            return web.json_response({"ciphertext": base64.b64encode(sealed).decode()})
        wrapped = base64.b64decode(given["ciphertext"])
        try:
            plain = sm4.open_sealed(self.key, wrapped[:12], wrapped[12:])
        except Invalid:
            return web.Response(status=400)
        return web.json_response({"plaintext": base64.b64encode(plain).decode()})


@pytest.fixture
async def kms() -> AsyncIterator[FakeKms]:
    fake = FakeKms()
    app = web.Application()
    app.router.add_post("/kms/v1/keys/{key:[^/]+}/{verb}", fake.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/kms/"
    yield fake
    await runner.cleanup()


async def test_with_a_kms_the_file_alone_is_worth_nothing(kms: FakeKms, tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "ring.json"
    (tmp_path / "token").write_text("let me in\n")
    (tmp_path / "token").chmod(0o600)
    port = HttpKms(kms.url, "bank/hub", tmp_path / "token", timeout_s=2)
    keys = await asyncio.to_thread(Keyring, path, clock, kms=port)
    material = base64.b64encode(keys.current(COLUMNS).material)
    assert material not in path.read_bytes()
    again = await asyncio.to_thread(Keyring, path, clock, kms=port)
    assert again.current(COLUMNS) == keys.current(COLUMNS)
    assert kms.calls == [("wrap", "Bearer let me in"), ("unwrap", "Bearer let me in")]
    kms.down = True
    clock.advance(SETTLE_MS)
    again.rotate(COLUMNS)  # the data key is known: neither this nor hearing of it needs the KMS
    assert keys.refresh()
    assert keys.current(COLUMNS).version == 2
    with pytest.raises(Invalid, match="no KMS is set"):
        Keyring(path, clock)
    with pytest.raises(Invalid, match="503"):
        await asyncio.to_thread(Keyring, path, clock, kms=port)


async def test_a_kms_that_refuses_or_is_away(kms: FakeKms) -> None:
    with pytest.raises(Invalid, match="404"):
        await asyncio.to_thread(HttpKms(kms.url, "another", None).wrap, b"key")
    with pytest.raises(Invalid, match="400"):
        await asyncio.to_thread(HttpKms(kms.url, "bank/hub", None).unwrap, bytes(40))
    with pytest.raises(Unavailable, match="does not answer"):
        await asyncio.to_thread(HttpKms("http://127.0.0.1:1", "k", None).wrap, b"key")
    with pytest.raises(Invalid, match="https"):
        HttpKms("http://kms.bank.example", "k", None)


@pytest.mark.parametrize(
    ("data_key", "sealed"), [(b"k" * 16, b"short"), (b"k" * 15, b"n" * 12 + b"x" * 40), (b"", b"")]
)
def test_an_envelope_that_is_not_whole_is_refused_like_any_other_bad_file(
    data_key: bytes, sealed: bytes
) -> None:
    """Whoever follows the file goes on with the keys it has, so this is `Invalid` and nothing else."""
    texts = {"wrapped": b"w", "sealed": sealed}
    data = json.dumps({"format": 1, **{k: base64.b64encode(v).decode() for k, v in texts.items()}}).encode()
    with pytest.raises(Invalid):
        rings.from_envelope(data, lambda _: data_key)
