"""The table of what a firm's staff may send. What is not in it is refused.

A `Kind` is what the bytes are, not what somebody calls them: the extension and the bytes must both lead to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_MIB: Final = 1 << 20


class Family(StrEnum):
    IMAGE = "image"
    DOCUMENT = "document"
    TEXT = "text"
    ARCHIVE = "archive"
    AUDIO = "audio"
    VIDEO = "video"


class Work(StrEnum):
    """Which call of the workshop looks into it; all but `NONE` must have passed before anybody sees the file."""

    NONE = "none"
    IMAGE = "image"
    PDF = "pdf"
    ARCHIVE = "archive"
    OFFICE = "office"  # a ZIP with parts, or a compound file: macros, links to templates elsewhere
    SOUND = "sound"


class Preview(StrEnum):
    NONE = "none"
    PICTURE = "picture"  # small and middle pictures of itself
    PAGE = "page"  # a picture of its first page
    LISTING = "listing"  # the names in it
    LENGTH = "length"  # its length in ms


@dataclass(frozen=True, slots=True)
class Kind:
    """`max_bytes` is for this kind; the service may ask for less. `sniffed` are the extensions by which the
    library may know it; empty: text, which has no signature."""

    name: str
    media_type: str
    extensions: tuple[str, ...]  # the first is the one that we give
    family: Family
    max_bytes: int
    inline: bool = False  # whether a browser may show it itself, rather than save it
    preview: Preview = Preview.NONE
    work: Work = Work.NONE
    sniffed: frozenset[str] = frozenset()
    macros: bool = False  # whether its extension says that it holds macros


# What one file of a family may weigh, and why.
_IMAGE: Final = 50 * _MIB  # a 50-megapixel photo is 25 MiB
_DOCUMENT: Final = 200 * _MIB  # scanned contracts; slides with pictures
_TEXT: Final = 50 * _MIB  # a year's transactions as CSV
_ARCHIVE: Final = 2048 * _MIB  # a year's scans of a firm
_AUDIO: Final = 200 * _MIB  # a recorded meeting
_VIDEO: Final = 2048 * _MIB  # half an hour from a phone

_OOXML: Final = "application/vnd.openxmlformats-officedocument"


def _image(name: str, *extensions: str, inline: bool = True, sniffed: str = "") -> Kind:
    return Kind(
        name,
        f"image/{name}",
        extensions,
        Family.IMAGE,
        _IMAGE,
        inline=inline,
        preview=Preview.PICTURE,
        work=Work.IMAGE,
        sniffed=frozenset((*extensions, *sniffed.split())),
    )


def _office(name: str, media_type: str, *extensions: str, sniffed: str, macros: bool = False) -> Kind:
    return Kind(
        name,
        media_type,
        extensions,
        Family.DOCUMENT,
        _DOCUMENT,
        work=Work.OFFICE,
        sniffed=frozenset(sniffed.split()),
        macros=macros,
    )


def _text(name: str, media_type: str, *extensions: str) -> Kind:
    return Kind(name, media_type, extensions, Family.TEXT, _TEXT)


def _archive(name: str, media_type: str, *, preview: Preview = Preview.NONE, work: Work = Work.NONE) -> Kind:
    return Kind(
        name,
        media_type,
        (name,),
        Family.ARCHIVE,
        _ARCHIVE,
        preview=preview,
        work=work,
        sniffed=frozenset((name,)),
    )


def _audio(name: str, media_type: str, *extensions: str, sniffed: str) -> Kind:
    return Kind(
        name,
        media_type,
        extensions,
        Family.AUDIO,
        _AUDIO,
        inline=True,
        preview=Preview.LENGTH,
        work=Work.SOUND,
        sniffed=frozenset(sniffed.split()),
    )


def _video(name: str, media_type: str, *extensions: str, sniffed: str) -> Kind:
    return Kind(
        name, media_type, extensions, Family.VIDEO, _VIDEO, inline=True, sniffed=frozenset(sniffed.split())
    )


_ZIP: Final = "zip docx xlsx pptx"  # what the library calls a ZIP; which one it is, its directory says
_OLE: Final = "doc xls ppt"

KINDS: Final[tuple[Kind, ...]] = (
    _image("jpeg", "jpg", "jpeg"),
    _image("png", "png"),
    _image("webp", "webp"),
    _image("gif", "gif"),
    _image("heic", "heic", "heif", inline=False),  # which becomes a JPEG: few browsers show it
    Kind(
        *("pdf", "application/pdf", ("pdf",), Family.DOCUMENT, _DOCUMENT, True, Preview.PAGE, Work.PDF),
        frozenset(("pdf",)),
    ),
    _office("docx", f"{_OOXML}.wordprocessingml.document", "docx", sniffed=_ZIP),
    _office("xlsx", f"{_OOXML}.spreadsheetml.sheet", "xlsx", sniffed=_ZIP),
    _office("pptx", f"{_OOXML}.presentationml.presentation", "pptx", sniffed=_ZIP),
    _office("docm", "application/vnd.ms-word.document.macroEnabled.12", "docm", sniffed=_ZIP, macros=True),
    _office("xlsm", "application/vnd.ms-excel.sheet.macroEnabled.12", "xlsm", sniffed=_ZIP, macros=True),
    _office(
        "pptm",
        "application/vnd.ms-powerpoint.presentation.macroEnabled.12",
        "pptm",
        sniffed=_ZIP,
        macros=True,
    ),
    _office("doc", "application/msword", "doc", "wps", sniffed=_OLE),  # WPS: the same format, its own name
    _office("xls", "application/vnd.ms-excel", "xls", "et", sniffed=_OLE),
    _office("ppt", "application/vnd.ms-powerpoint", "ppt", "dps", sniffed=_OLE),
    Kind(  # GB/T 33190: the fixed layout of electronic invoices
        *("ofd", "application/ofd", ("ofd",), Family.DOCUMENT, _DOCUMENT, False, Preview.NONE, Work.ARCHIVE),
        frozenset(_ZIP.split()),
    ),
    _text("txt", "text/plain", "txt"),
    _text("csv", "text/csv", "csv"),
    _text("md", "text/markdown", "md"),
    _text("xml", "application/xml", "xml"),  # electronic invoices as data
    _text("eml", "message/rfc822", "eml"),
    Kind(
        *("zip", "application/zip", ("zip",), Family.ARCHIVE, _ARCHIVE, False, Preview.LISTING, Work.ARCHIVE),
        frozenset(_ZIP.split()),
    ),
    _archive("7z", "application/x-7z-compressed"),
    _archive("rar", "application/vnd.rar"),
    _audio("amr", "audio/amr", "amr", sniffed="amr"),
    _audio("mp3", "audio/mpeg", "mp3", sniffed="mp3 mpga"),
    _audio("m4a", "audio/mp4", "m4a", sniffed="m4a mp4"),
    _audio("ogg", "audio/ogg", "ogg", "oga", "opus", sniffed="ogg oga"),
    _audio("wav", "audio/wav", "wav", sniffed="wav"),
    _video("mp4", "video/mp4", "mp4", "m4v", sniffed="mp4 m4v 3gp"),
    _video("mov", "video/quicktime", "mov", sniffed="mov"),
    _video("webm", "video/webm", "webm", sniffed="webm"),
)

BY_EXTENSION: Final = {extension: kind for kind in KINDS for extension in kind.extensions}
BY_NAME: Final = {kind.name: kind for kind in KINDS}


def name_as(name: str, kind: Kind) -> str:
    """A cleaned name with an extension of this kind: what came as a HEIC is kept as a JPEG."""
    stem, _, extension = name.rpartition(".")
    return name if extension.lower() in kind.extensions else f"{stem}.{kind.extensions[0]}"


# Named, so that the sender is told why and not only "unknown".
EXECUTABLES: Final = frozenset(
    "exe com scr pif msi msp dll ocx cpl sys drv lnk jar war class apk aab ipa hap appx dmg pkg deb rpm iso img"
    " vhd chm hlp msc gadget application appref-ms scf url website library-ms search-ms elf so bin run".split()
)
SCRIPTS: Final = frozenset(
    "bat cmd ps1 psm1 vbs vbe js jse mjs wsf wsh sct sh bash zsh py pyc pyw rb pl php phtml php5 asp aspx jsp jspx"
    " cgi lua reg inf applescript command xll xlam ppam dotm xltm potm sldm".split()
)
ACTIVE: Final = frozenset("html htm xhtml xht shtml mht mhtml svg svgz hta xsl xslt swf htc".split())
