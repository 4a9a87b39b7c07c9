"""What people get is not always what they sent: a HEIC is a JPEG, a PDF that acts stays away; a copy names files."""

from __future__ import annotations

import io

from PIL import Image

from gateway.privacy.jobs import collect
from tests.files import samples
from tests.files.conftest import World
from tests.files.inspection.test_documents import EXTERNAL


async def test_a_heic_is_kept_as_a_jpeg(world: World) -> None:
    answer = await world.upload("照片.HEIC", samples.heic(), Idempotency_Key="photo")
    file = answer.json
    assert (file["name"], file["media_type"], file["state"]) == ("照片.jpg", "image/jpeg", "ready")
    assert file["cleaned"]
    assert file["variants"] == ["original", "thumbnail", "preview"]
    again = await world.upload("照片.HEIC", samples.heic(), Idempotency_Key="photo")
    assert again.json["file_id"] == file["file_id"]
    back = await world.ask("GET", f"/files/{file['file_id']}")
    assert back.headers["Content-Type"] == "image/jpeg"
    assert ".jpg" in back.headers["Content-Disposition"]
    assert b"CanaryPhone" not in back.body
    assert Image.open(io.BytesIO(back.body)).size == (64, 48)
    told = {
        "file_id": file["file_id"],
        "name": "照片.jpg",
        "size": file["size_bytes"],
        "type": "image/jpeg",
        "width": 64,
        "height": 48,
    }
    group = {"title": "x", "members": [str(world.people["wangfang"].person_id)]}
    room = (await world.call("im.conversations.create_group", group)).json["conversation_id"]
    sent = {"conversation_id": room, "key": "k", "kind": "image", "body": told}
    assert (await world.call("im.messages.send", sent)).status == 200


async def test_a_pdf_that_acts_stays_away(world: World) -> None:
    data = samples.pdf_with(b"<< /S /JavaScript /JS (1) >>", catalog=b"/OpenAction 10 0 R")
    file = (await world.upload("合同.pdf", data)).json
    assert (file["state"], file["reason"]) == ("quarantined", "scripted")
    assert (await world.ask("GET", f"/files/{file['file_id']}")).status == 404


async def test_what_passed_as_an_archive_is_looked_into_as_a_document(world: World) -> None:
    """The same bytes are stored once, but not without the questions that another name asks."""
    relations = EXTERNAL.format(mode="TargetMode='External'", kind="attachedTemplate").encode()
    data = samples.ooxml("docx", {"word/_rels/settings.xml.rels": relations})
    states = [
        (await world.upload(name, data)).json["state"] for name in ("a.docx", "a.zip", "b.docx", "b.zip")
    ]
    assert states == ["quarantined", "ready", "quarantined", "ready"]


async def test_a_copy_of_ones_data_names_ones_files(world: World) -> None:
    file_id = await world.ready("工资.csv", "姓名,金额\n".encode())
    await world.ready("别人的.csv", "姓名,金额\n".encode(), who="wangfang")
    copies = [
        await world.runtime.db.run(collect, world.runtime.columns, world.people[who].person_id)
        for who in ("zhangwei", "lina")
    ]
    (told,) = copies[0]["files"]
    assert (told["file_id"], told["name"], told["state"]) == (file_id, "工资.csv", "ready")
    assert copies[1]["files"] == []
