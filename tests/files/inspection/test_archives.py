"""F02: what an archive would do is read out of its directory, before anything is inflated."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from files.inspection import archives, zips
from files.inspection.values import ArchiveLimits, Finding, Listing
from tests.files import samples

pytestmark = pytest.mark.requirement("F02")


def listing(data: bytes, limits: ArchiveLimits = archives.LIMITS) -> Listing:
    return archives.list_zip(io.BytesIO(data), limits)


def with_names(*names: bytes, flags: int = 0) -> bytes:
    """An archive whose names are exactly these bytes."""
    data = samples.zipped([(f"{n:0{len(name)}d}", b"x") for n, name in enumerate(names)], packed=False)
    for n, name in enumerate(names):
        data = data.replace(f"{n:0{len(name)}d}".encode(), name)
    if flags:
        data = data.replace(
            b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0" + struct.pack("<H", flags)
        )
    return data


def test_a_listing() -> None:
    seen = listing(samples.zipped({"合同/一.pdf": b"1" * 1000, "合同/": b"", "b.txt": b"22"}))
    assert (seen.entries, seen.inflated, seen.findings) == (3, 1002, ())
    assert [(one.name, one.size, one.folder) for one in seen.items] == [
        ("合同/一.pdf", 1000, False),
        ("合同", 0, True),
        ("b.txt", 2, False),
    ]


@pytest.mark.parametrize(
    ("raw", "flags", "name", "encoding"),
    [
        ("工资表.xls".encode("gb18030"), 0, "工资表.xls", "gb18030"),  # Windows
        ("联通.txt".encode("gb18030"), 0, "联通.txt", "gb18030"),  # also valid UTF-8, famously
        ("工资表.xls".encode(), 0, "工资表.xls", "utf-8"),  # macOS, without the flag
        ("工资表.xls".encode(), 1 << 11, "工资表.xls", "utf-8"),
        (b"plain.txt", 0, "plain.txt", "utf-8"),
        (b"\xff\xff.txt", 0, "  .txt", "cp437"),  # no-break spaces there
    ],
)
def test_names_are_read_as_they_were_meant(raw: bytes, flags: int, name: str, encoding: str) -> None:
    data = with_names(raw, flags=flags)
    end = zips.find_end(data, len(data))
    (entry,) = zips.entries(data[end.start : end.start + end.size], end.count)
    assert (entry.name.replace("\xa0", " "), entry.encoding) == (name, encoding)


@pytest.mark.parametrize(
    "name",
    ["../a.txt", "a/../../b.txt", "/etc/passwd", "C:\\a.txt", "\\\\host\\a", "..\\a.txt", "a/..", "a\0.txt"],
)
def test_zip_slip(name: str) -> None:
    seen = listing(with_names(name.encode()))
    assert Finding.PATH in seen.findings
    assert not any(".." in one.name.split("/") or one.name.startswith("/") for one in seen.items)


def test_names_with_dots_are_no_slip() -> None:
    assert not listing(samples.zipped({"a..b/..c/d...txt": b""})).findings


def test_a_link() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert listing(out.getvalue()).findings == (Finding.LINK,)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice() -> None:
    assert listing(samples.zipped([("a.txt", b"1"), ("A.TXT", b"2")])).findings == (Finding.DUPLICATE,)
    assert listing(samples.zipped([("a.txt", b"1"), ("a.txt", b"2")])).findings == (Finding.DUPLICATE,)


def test_encrypted_entries() -> None:
    assert listing(with_names(b"a.txt", flags=1)).findings == (Finding.ENCRYPTED,)


def test_programs_in_it() -> None:
    assert listing(samples.zipped({"照片/a.jpg.exe": b""})).findings == (Finding.EXECUTABLE,)


def test_a_bomb_is_named_and_never_inflated() -> None:
    data = samples.zipped({"zero.bin.txt": bytes(80 << 20)})
    assert len(data) < 100_000
    assert listing(data).findings == (Finding.RATIO,)
    small = ArchiveLimits(inflated_bytes=1 << 20, entries=3, nested=2)
    assert Finding.INFLATED in listing(data, small).findings
    many = samples.zipped({f"{n}.txt": b"" for n in range(4)})
    assert listing(many, small).findings == (Finding.ENTRIES,)
    nested = samples.zipped({f"{n}.zip": b"" for n in range(3)})
    assert listing(nested, small).findings == (Finding.NESTED,)
    assert listing(nested).nested == 3


def test_entries_that_share_bytes() -> None:
    """Fifield's better bomb: every entry of the directory points to the same kernel."""
    data = samples.zipped({f"{n}": bytes(100_000) for n in range(5)})
    end = zips.find_end(data, len(data))
    broken = bytearray(data)
    at = end.start
    for _ in range(5):
        broken[at + 42 : at + 46] = bytes(4)
        at += 46 + 1
    assert listing(bytes(broken)).findings == (Finding.OVERLAP,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x05\x06",
        samples.zipped({"a": b"b"})[:-1],
        samples.zipped({"a": b"b"}) + b"x",
        samples.zipped({"a": b"b"}).replace(b"PK\x01\x02", b"PK\x01\x03"),
        samples.zipped({"a": b"b"})[:-22]
        + b"PK\x05\x06"
        + bytes(4)
        + b"\xff\xff" * 2
        + b"\xff" * 8
        + bytes(2),
    ],
)
def test_what_does_not_hold_together(data: bytes) -> None:
    assert listing(data).findings == (Finding.BROKEN,)


def test_bytes_before_the_first_entry() -> None:
    assert Finding.HIDDEN in listing(b"MZ something" + samples.zipped({"a": b"b"})).findings
    data = samples.zipped({"a": b"1", "b": b"2"})
    end = zips.find_end(data, len(data))
    one = bytearray(data[: end.start] + data[end.start + 47 : end.start + end.size] + data[-22:])
    one[-14:-6] = struct.pack("<HHI", 1, 1, 47)
    assert Finding.HIDDEN in listing(bytes(one)).findings


def test_only_the_end_of_a_sparse_copy_is_read(tmp_path: Path) -> None:
    data = samples.zipped({f"{n}.jpg": bytes(range(256)) * 4000 for n in range(8)}, packed=False)
    start = archives.directory_start(data[-100_000:], len(data))
    assert start is not None
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.seek(start)
        file.write(data[start:])
    with path.open("rb") as file:
        assert archives.list_zip(file) == listing(data)
    assert path.stat().st_blocks * 512 < 100_000
    assert archives.directory_start(b"no archive", 10) is None


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/\\:"), min_size=1, max_size=30),
        st.binary(max_size=200),
        max_size=8,
    ),
    st.binary(max_size=300),
)
@settings(max_examples=150, deadline=None)
def test_the_standard_library_reads_the_same(files: dict[str, bytes], comment: bytes) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.comment = comment
    data = out.getvalue()
    if b"PK\x05\x06" in comment:
        return
    end = zips.find_end(data, len(data))
    found = list(zips.entries(data[end.start : end.start + end.size], end.count))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        expected = [
            (one.filename, one.file_size, one.compress_size, one.header_offset) for one in archive.infolist()
        ]
    assert [(one.name, one.size, one.packed, one.offset) for one in found] == expected


def test_sixty_four_bits() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("a.txt", "w", force_zip64=True) as file:
        file.write(b"x" * 1000)
    data = out.getvalue()
    end = zips.find_end(data, len(data))
    wide = struct.pack(
        "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, end.count, end.count, end.size, end.start
    )
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(data) - 22, 1)
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    both = data[:-22] + wide + locator + last
    assert zipfile.ZipFile(io.BytesIO(both)).namelist() == ["a.txt"]
    assert (listing(both).entries, listing(both).inflated, listing(both).findings) == (1, 1000, ())


@given(st.binary(max_size=400), st.integers(0, 300))
@settings(max_examples=300)
def test_no_directory_is_a_surprise(noise: bytes, at: int) -> None:
    data = bytearray(samples.zipped({"a/b.txt": b"1" * 50, "c.txt": b"2"}))
    data[at : at + len(noise)] = noise
    listing(bytes(data))
