"""Names are data: whatever somebody calls a file, nothing becomes a path, a header or another extension."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote

import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition
from hypothesis import example, given, settings
from hypothesis import strategies as st

from files.inspection.names import NAME_BYTES, clean_name, content_disposition, extension_of

_SINGLE = "./\\: \u202e\u200b\u00a0．。∕＼\r\n\0\"%;'<>|*?\u0301é中𠮷😀\ud800\ufeff\u212a\u037e\u0338"
_LONGER = ("..", "CON", "nul.", "exe", "pdf", "ｅｘｅ", "com1", "lpt³", "合同", "a" * 90, "汉" * 40)
_PIECES = st.sampled_from((*_SINGLE, *_LONGER))
NAMES = st.one_of(st.lists(_PIECES, max_size=12).map("".join), st.text(max_size=300))


@pytest.mark.parametrize(
    ("given_name", "clean"),
    [
        ("对账单.pdf", "对账单.pdf"),
        ("2026/06 对账单.pdf", "2026_06 对账单.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..\\..\\windows\\system32\\a.dll", "_.._windows_system32_a.dll"),
        ("C:\\Users\\a\\发票.pdf", "C__Users_a_发票.pdf"),
        (".htaccess", "htaccess"),
        ("发票.pdf                .exe", "发票.pdf.exe"),
        ("发票\u202efdp.exe", "发票fdp.exe"),
        ("发票.pdf．exe", "发票.pdf.exe"),
        ("发票.ＰＤＦ", "发票.PDF"),
        ("报告。最终版.docx", "报告。最终版.docx"),
        ("a\u200b\ufeff\u2066b.txt", "ab.txt"),
        ("行一\r\nSet-Cookie: a=b.txt", "行一Set-Cookie_ a=b.txt"),
        ("con.pdf", "_con.pdf"),
        ("COM1", "_COM1"),
        ("lpt³.txt", "_lpt³.txt"),
        ("constant.pdf", "constant.pdf"),
        ("结尾. . .", "结尾"),
        ("e\u0301te\u0301.pdf", "été.pdf"),
        ("半个\ud83d字.txt", "半个字.txt"),
        ("張\ue000三.pdf", "張\ue000三.pdf"),  # a rare family name in the private use area
        ("", "未命名"),
        ("\u202e...", "未命名"),
    ],
)
def test_names_become(given_name: str, clean: str) -> None:
    assert clean_name(given_name) == clean


@given(NAMES)
@settings(max_examples=500)
@example("." + "a" * 300)
@example("字" * 100 + ".pdf")
@example("e" + "\u0301" * 200 + ".pdf")
def test_every_name_is_harmless(name: str) -> None:
    clean = clean_name(name)
    assert 0 < len(clean.encode()) <= NAME_BYTES
    assert not set(clean) & set('/\\:"<>|?*\0\r\n')
    assert not any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in clean)
    assert clean == clean.strip(" .")
    assert unicodedata.is_normalized("NFC", clean)
    assert " ." not in clean
    assert ". " not in clean
    assert clean_name(clean) == clean


@given(
    st.text(st.characters(categories=("Lo", "Nd")), min_size=1, max_size=400),
    st.sampled_from(("pdf", "docx", "7z")),
)
def test_cutting_keeps_the_extension(stem: str, extension: str) -> None:
    clean = clean_name(f"{stem}.{extension}")
    assert extension_of(clean) == extension
    assert unicodedata.normalize("NFC", stem).startswith(
        clean.removesuffix(f".{extension}").removeprefix("_")
    )


@given(NAMES, st.booleans())
@settings(max_examples=300)
def test_the_header_says_the_name_and_nothing_else(name: str, inline: bool) -> None:
    value = content_disposition(name, inline)
    assert value.isascii()
    assert value.isprintable()
    kind, parameters = parse_content_disposition(value)  # a reader that is not ours
    assert kind == ("inline" if inline else "attachment")
    assert set(parameters) == {"filename", "filename*"}
    assert content_disposition_filename(parameters) == clean_name(name)
    assert unquote(value.partition("filename*=UTF-8''")[2]) == clean_name(name)


@pytest.mark.parametrize(
    ("name", "fallback"),
    [
        ("invoice 1.pdf", "invoice 1.pdf"),
        ("对账单.pdf", "file.pdf"),
        ("对账单2026.pdf", "___2026.pdf"),
        ("对账单", "file"),
    ],
)
def test_old_readers_get_a_name_in_ascii(name: str, fallback: str) -> None:
    assert f'filename="{fallback}"' in content_disposition(name, False)
