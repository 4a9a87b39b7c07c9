"""Requirements F03, F05, F06 from outside: declared sizes are held to, addresses allow one thing, files never run."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from core.s3 import S3
from tests.files import samples
from tests.files.conftest import Answer, World

CSV = "姓名,金额\n张三,128.50\n".encode() * 100
TUS = {"Tus-Resumable": "1.0.0"}


async def link(world: World, file_id: str, **more: Any) -> str:
    made = await world.call("files.library.links", {"file_ids": [file_id]} | more)
    return str(made.json[0]["url"])


class TestDeclaredSizes:
    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"files_person_quota_bytes": 10_000}

    async def begin(self, world: World, size: int) -> Answer:
        name = base64.b64encode(b"a.txt").decode()
        headers = TUS | {"Upload-Length": str(size), "Upload-Metadata": f"filename {name}"}
        return await world.ask("POST", "/files/tus", headers=headers)

    @pytest.mark.requirement("F03")
    async def test_more_than_was_declared_is_not_taken(self, world: World) -> None:
        begun = await self.begin(world, 1000)
        assert begun.status == 201, begun.body
        path = begun.headers["Location"].removeprefix(world.url)
        headers = TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        answer = await world.ask("PATCH", path, data=b"x" * 5000, headers=headers)
        assert answer.status == 413, answer.body
        assert (await world.call("files.room.usage")).json["person_bytes"] == 1000  # booked when it began
        assert (await world.ask("DELETE", path, headers=TUS)).status == 204
        assert (await world.call("files.room.usage")).json["person_bytes"] == 0

    @pytest.mark.requirement("F03")
    async def test_no_room_is_said_before_a_byte_is_taken(self, world: World) -> None:
        assert (await self.begin(world, 10_001)).status == 403
        assert (await self.begin(world, 6000)).status == 201
        assert (
            await self.begin(world, 6000)
        ).status == 403  # the first has not sent a byte, its room is taken
        answer = await world.upload("a.csv", CSV * 3)
        assert answer.status == 403
        assert answer.json["errors"]["quota"] == "person"


class TestAddresses:
    @pytest.fixture
    def more_settings(self, object_store: S3) -> dict[str, Any]:
        return {"files_direct_url": object_store.endpoint}

    @pytest.mark.requirement("F05")
    async def test_a_changed_address_is_worth_nothing(self, world: World) -> None:
        url = await link(world, await world.ready("a.csv", CSV))
        good = await world.ask("GET", url, who=None)
        assert good.body == CSV
        before, _, rest = url.removeprefix("/files/open/").partition("/")
        for at in range(0, len(before), 3):
            other = "A" if before[at] != "A" else "B"
            changed = f"/files/open/{before[:at]}{other}{before[at + 1 :]}/{rest}"
            assert (await world.ask("GET", changed, who=None)).status == 404, changed
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await world.ask(method, url, who=None)).status == 405, method
        world.clock.later_ms = int(world.runtime.settings.files_link_s * 1000) + 2000
        assert (await world.ask("GET", url, who=None)).status == 404

    @pytest.mark.requirement("F05")
    async def test_a_part_goes_where_and_as_long_as_was_signed(self, world: World) -> None:
        data = CSV * 10
        fields = {
            "name": "a.csv", "size_bytes": len(data), "way": "direct",
            "sha256": base64.b64encode(samples.digest(data)).decode(),
        }  # fmt: skip
        upload = (await world.call("files.uploads.begin", fields)).json
        numbers = {"upload_id": upload["upload_id"], "numbers": [1]}
        (part,) = (await world.call("files.uploads.sign_parts", numbers)).json
        assert part["size_bytes"] == len(data)
        assert part["expires_ms"] - world.clock.now_ms() <= 300_000

        async def put(url: str, body: bytes) -> int:
            from yarl import URL

            async with world.session.put(URL(url, encoded=True), data=body) as answer:
                return answer.status

        url = part["url"]
        assert await put(url, data + b"x") == 403
        assert await put(url.replace("partNumber=1", "partNumber=2"), data) == 403
        assert await put(url.replace("content/", "content/1"), data) == 403
        assert await put(url[:-1] + ("0" if url[-1] != "0" else "1"), data) == 403
        assert (await world.call("files.uploads.sign_parts", numbers, who="wangfang")).status == 404
        assert await put(url, data) == 200
        assert (await world.call("files.uploads.finish", {"upload_id": upload["upload_id"]})).status == 200


@pytest.mark.requirement("F06")
@pytest.mark.parametrize("inline", [False, True])
async def test_what_is_sent_never_runs(world: World, inline: bool) -> None:
    """Text is never shown by itself, even where that was asked for; pictures are, in a sandbox without rights."""
    for name, data, shown in (("笔记.txt", "你好".encode(), False), ("a.png", samples.png(), inline)):
        answer = await world.ask(
            "GET", await link(world, await world.ready(name, data), inline=inline), who=None
        )
        assert answer.status == 200
        assert answer.headers["Content-Disposition"].startswith("inline" if shown else "attachment")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert policy.endswith("sandbox")  # and no word of what it may after all
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "html" not in answer.headers["Content-Type"]
        assert "Set-Cookie" not in answer.headers


class TestAHostOfItsOwn:
    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"files_public_url": "https://files.bank.example"}

    @pytest.mark.requirement("F06")
    async def test_files_come_from_their_host_and_nothing_else_does(self, world: World) -> None:
        url = await link(world, await world.ready("a.csv", CSV))
        assert url.startswith("https://files.bank.example/files/open/")
        path, there = url.removeprefix("https://files.bank.example"), {"Host": "files.bank.example"}
        assert (await world.ask("GET", path, who=None, headers=there)).body == CSV
        assert (await world.ask("GET", path, who=None)).status == 421  # the gateway's own host
        for method, other in (
            ("POST", "/v1/gateway.identity.me"),
            ("GET", "/files/1"),
            ("POST", "/files/upload?name=a.csv"),
            ("GET", "/openapi.json"),
            ("GET", "/files/tus"),
            ("GET", "/"),
        ):
            assert (await world.ask(method, other, headers=there)).status == 421, other
