"""Pages of a PDF and the insides of Office files. Runs in the workshop only."""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO, Final
from xml.etree import ElementTree as ET

from files.inspection import archives
from files.inspection.values import Document, Finding, Office, PageLimits, Picture, Unreadable

_PASSWORD: Final = 4  # FPDF_ERR_PASSWORD
_POINTS: Final = 1_000_000.0  # wider than a hundred posters: no page


LIMITS: Final = PageLimits()

# Actions that run, start, open or send something (ISO 32000-1, 12.6.4), by the names that say so. /OpenAction alone
# only says which page is shown first.
_ACTIONS: Final = (
    b"JavaScript",
    b"Launch",
    b"SubmitForm",
    b"ImportData",
    b"GoToE",
    b"Rendition",
    b"RichMedia",
)
_NAME_END: Final = rb"(?=[\s/<>\[\]()%{}]|\Z)"
_DATA: Final = frozenset(
    ("xml", "xbrl", "ofd", "json", "csv", "txt")
)  # what electronic vouchers carry with them
_OBJECTS: Final = re.compile(rb"/ObjStm\b[^\0]{0,400}?stream\r?\n")
_OBJECTS_BYTES: Final = 256 << 20  # of all objects that are packed; nobody's document has a tenth of it


def _spelled(name: bytes) -> bytes:
    """A name as it may be written: every character also as #xx."""
    return b"".join(b"(?:%c|#%02x|#%02X)" % (one, one, one) for one in name)


_ACTIVE: Final = re.compile(rb"/(?:" + b"|".join(map(_spelled, _ACTIONS)) + rb")" + _NAME_END)


def first_page(file: BinaryIO, limits: PageLimits = LIMITS) -> Document | Unreadable:
    """How many pages, and the first of them as a JPEG. No script in it runs: the engine is built without any."""
    import pypdfium2  # a second: only workers that see a PDF load it

    try:
        document = pypdfium2.PdfDocument(file)  # which it reads as it goes, not into memory
    except pypdfium2.PdfiumError as error:
        if error.err_code == _PASSWORD:
            return Document(0, True, None)
        return Unreadable("broken")
    try:
        seen = _page(document, limits)
        return replace(seen, active=_is_active(file, document)) if isinstance(seen, Document) else seen
    except pypdfium2.PdfiumError:
        return Unreadable("broken")
    except MemoryError:
        return Unreadable("memory")
    finally:
        document.close()


def _page(document: Any, limits: PageLimits) -> Document | Unreadable:
    pages = len(document)
    if not 0 < pages <= limits.pages:
        return Unreadable("limit" if pages else "broken")
    page = document[0]
    width, height = page.get_size()
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        return Unreadable("broken")
    if max(width, height) > _POINTS:
        return Unreadable("limit")
    picture = (
        page.render(scale=limits.preview / max(width, height), may_draw_forms=False).to_pil().convert("RGB")
    )
    page.close()
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85, optimize=True)
    return Document(pages, False, Picture("image/jpeg", picture.width, picture.height, out.getvalue()))


def _is_active(file: BinaryIO, document: Any) -> bool:
    """Whether it holds scripts, actions that start or send something, or files that are more than data.

    The engine knows of scripts and files that stand in the document's own lists, however they are packed; anything
    else is looked for by name, in the file and in the objects that are packed in it.
    """
    from pypdfium2 import raw

    if raw.FPDFDoc_GetJavaScriptActionCount(document.raw) > 0:
        return True
    for at in range(document.count_attachments()):
        if document.get_attachment(at).get_name().rpartition(".")[2].lower() not in _DATA:
            return True
    file.seek(0)
    data = file.read()
    if _ACTIVE.search(data):
        return True
    left = _OBJECTS_BYTES
    for found in _OBJECTS.finditer(data):
        packed = zlib.decompressobj()
        try:
            objects = packed.decompress(data[found.end() : found.end() + (64 << 20)], left)
        except zlib.error:
            continue  # not packed in this way, or encrypted
        left -= len(objects)
        if _ACTIVE.search(objects) or left <= 0:
            return True
    return False


# --- Office Open XML ----------------------------------------------------------------------------------------------

_PART_BYTES: Final = 4 << 20  # of a part that we read: lists of types and relations are some kilobytes
_PARTS: Final = 2000
_MAIN: Final = {"word": "docx", "xl": "xlsx", "ppt": "pptx"}
_BOMBS: Final = {Finding.ENTRIES, Finding.INFLATED, Finding.RATIO, Finding.OVERLAP}
# Relations that fetch something when the document is opened. Links that a person clicks and workbooks that refer to
# others are everyday work.
_FETCHED: Final = re.compile(r"/(attachedTemplate|oleObject|frame|subDocument|package|control)$")


def office(file: BinaryIO) -> Office | Unreadable:
    """What kind of Office file this is by its own insides, and what in it is dangerous."""
    beginning = file.read(8)
    file.seek(0)
    try:
        return _compound(file) if beginning.startswith(b"\xd0\xcf\x11\xe0") else _package(file)
    except MemoryError:
        return Unreadable("memory")


_MACROS: Final = re.compile(r"vbaproject|macroenabled|macrosheet", re.IGNORECASE)


def _package(file: BinaryIO) -> Office | Unreadable:
    listing = archives.list_zip(file)
    if Finding.BROKEN in listing.findings:
        return Unreadable("broken")
    if _BOMBS & set(listing.findings):
        return Unreadable("limit")
    if Finding.ENCRYPTED in listing.findings:
        return Office("", False, False, True)
    try:
        with zipfile.ZipFile(file) as package:
            types = {text for _, text in _attributes(package, "[Content_Types].xml", ("ContentType",))}
            kinds = {_MAIN[top] for name in package.namelist() if (top := name.partition("/")[0]) in _MAIN}
            relations = [name for name in package.namelist() if name.lower().endswith(".rels")]
            if len(relations) > _PARTS:
                return Unreadable("limit")
            external = any(
                mode.lower() == "external" and _FETCHED.search(kind)
                for name in relations
                for mode, kind in _attributes(package, name, ("TargetMode", "Type"))
            )
            names = package.namelist()
    except (zipfile.BadZipFile, ET.ParseError, KeyError, OSError, ValueError, NotImplementedError):
        return Unreadable("broken")
    except Exception as error:
        return Unreadable("limit" if isinstance(error, RecursionError) else "broken")
    macros = any(_MACROS.search(one) for one in types)
    macros = macros or any(name.lower().endswith("vbaproject.bin") for name in names)
    return Office(kinds.pop() if len(kinds) == 1 else "", macros, external, False)


def _attributes(package: zipfile.ZipFile, name: str, wanted: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Pairs of two attributes (or of nothing and one) of every element of a part. A parser, because parts may be in
    UTF-16 and attributes in any order; what entities could do to it ends at the limits of this process."""
    with package.open(name) as part:
        data = part.read(_PART_BYTES + 1)
    if len(data) > _PART_BYTES:
        raise ValueError("a part is too large")
    if b"<!" in data.replace(b"\0", b"").replace(b"<!--", b""):
        raise ValueError("a part declares entities, which the standard forbids (ECMA-376 part 2, 6.2.4)")
    for element in ET.fromstring(data).iter():  # noqa: S314 - no entities, and confined
        found = [element.get(one, "") for one in wanted]
        yield (found[0], found[1]) if len(found) == 2 else ("", found[0])


# --- compound files: the old formats, and encrypted new ones -------------------------------------------------------

_STREAMS: Final = (
    ("WordDocument", "doc"),
    ("Workbook", "xls"),
    ("Book", "xls"),
    ("PowerPoint Document", "ppt"),
)
_MACRO_STORAGES: Final = frozenset(("vba", "macros", "_vba_project", "_vba_project_cur"))
_STREAM_BYTES: Final = 64 << 20
# [MS-PPT] 2.4.10: a container of 20 bytes (type 0x3FF) that holds one atom of 12 (type 0x400)
_PPT_VBA: Final = bytes.fromhex("1f00ff0314000000020000040c000000")


def _compound(file: BinaryIO) -> Office | Unreadable:
    import olefile

    try:
        with olefile.OleFileIO(file) as compound:
            names = compound.listdir(streams=True, storages=True)
            parts = {part.lower() for name in names for part in name}
            if "encryptedpackage" in parts:
                return Office("", False, False, True)
            found = [(stream, kind) for stream, kind in _STREAMS if compound.exists(stream)]
            if not found:
                return Office("", False, False, False)
            stream, kind = found[0]
            data = compound.openstream(stream).read(_STREAM_BYTES)
            encrypted = "encryptedsummary" in parts or _is_encrypted(kind, data)
    except MemoryError:
        raise
    except Exception as error:
        return Unreadable("limit" if isinstance(error, RecursionError) else "broken")
    macros = bool(parts & _MACRO_STORAGES) or (kind == "xls" and _has_macro_sheet(data))
    if kind == "ppt":
        at = data.find(_PPT_VBA)
        macros = macros or (at >= 0 and data[at + 20 : at + 24] not in (b"", bytes(4)))
    return Office(kind, macros, False, encrypted)


def _is_encrypted(kind: str, data: bytes) -> bool:
    if kind == "doc":  # [MS-DOC] 2.5.2: bit fEncrypted of FibBase
        return len(data) > 11 and bool(data[11] & 1)
    return kind == "xls" and any(number == 0x2F for number, _ in _records(data))  # FilePass


def _has_macro_sheet(data: bytes) -> bool:
    """[MS-XLS] 2.4.28: a BoundSheet8 of type 1 is a sheet of Excel 4.0 macros, mostly a hidden one."""
    return any(number == 0x85 and len(body) > 5 and body[5] == 1 for number, body in _records(data))


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Records of the workbook's globals, up to the first EOF."""
    at = 0
    while at + 4 <= len(data):
        number, size = (
            int.from_bytes(data[at : at + 2], "little"),
            int.from_bytes(data[at + 2 : at + 4], "little"),
        )
        yield number, data[at + 4 : at + 4 + size]
        if number == 0x0A:
            return
        at += 4 + size
