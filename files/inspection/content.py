"""What bytes are, and what else they could be taken for. Pure.

Two witnesses must agree with the extension: the signature that our table asks for, at the file's very first byte, and
`puremagic`, which knows three thousand formats and must not say otherwise (decision 24).
"""

from __future__ import annotations

import codecs
import re
from typing import Final

import puremagic

from files.inspection import kinds, zips
from files.inspection.kinds import Family, Kind
from files.inspection.reasons import Reason

_SNIFF_BYTES: Final = (
    4096  # what the library gets: its time grows with it, no signature in our table lies further
)


# --- bytes that are refused whatever they are called --------------------------------------------------------------

_PROGRAMS: Final = (
    *(b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe"),
    *(b"\xcf\xfa\xed\xfe", b"dex\n", b"\0asm", b"L\0\0\0\x01\x14\x02\0", b"MSCF", b"ITSF", b"!<arch>\n"),
)
_MARKUP: Final = re.compile(
    rb"<\s{0,16}(?:\w{1,32}:)?(?:!doctype\s{1,16}html|html|head|body|script|iframe|object|embed|svg|style|meta|link|form"
    rb"|base)[\s>/]|<\?php|<%@",
    re.IGNORECASE,
)
# In megabytes of noise a short one would be found by chance, and a clean photo in a million refused.
_MARKUP_IN_NOISE: Final = re.compile(
    rb"<(?:!doctype\s{1,16}html|html|body|script|iframe)[\s>]|<\?php\s", re.IGNORECASE
)
_OPENING: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?(?>\s+|<!--.*?-->|<\?xml.*?\?>)*+(?:" + _MARKUP.pattern + rb")",
    re.IGNORECASE | re.DOTALL,
)


def dangerous(head: bytes) -> Reason | None:
    if head.startswith(_PROGRAMS) or (head.startswith(b"MZ") and b"\0" in head[:128]):
        return Reason.EXECUTABLE
    if head.startswith(b"#!") and not head.startswith(b"#!AMR"):
        return Reason.SCRIPT
    if _OPENING.match(head[:_SNIFF_BYTES]):
        return Reason.ACTIVE
    return None


# --- binary content -----------------------------------------------------------------------------------------------

ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OFFICE: Final = {
    "docx": "word/",
    "docm": "word/",
    "xlsx": "xl/",
    "xlsm": "xl/",
    "pptx": "ppt/",
    "pptm": "ppt/",
}
_SIGNATURES: Final = {
    "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "gif": (b"GIF87a", b"GIF89a"),
    "pdf": (b"%PDF-",),
    "7z": (b"7z\xbc\xaf\x27\x1c",),
    "rar": (b"Rar!\x1a\x07\0", b"Rar!\x1a\x07\x01\0"),
    "amr": (b"#!AMR\n", b"#!AMR-WB\n"),
    "ogg": (b"OggS\0",),
    **dict.fromkeys(("zip", "ofd", *OFFICE), ZIP),
    **dict.fromkeys(("doc", "xls", "ppt"), (_OLE,)),
}
_HEIC: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MP4: Final = (b"iso", b"mp4", b"avc1", b"3gp", b"3g2", b"dash", b"M4V", b"MSNV", b"f4v ", b"mmp4")


def _is(kind: str, head: bytes) -> bool:
    """Whether the first bytes have this kind's signature."""
    brand = head[8:12]
    match kind:
        case "webp" | "wav":
            return head[:4] == b"RIFF" and brand == (b"WEBP" if kind == "webp" else b"WAVE")
        case "mp3":
            return head[:3] == b"ID3" or _is_mp3_frame(head)
        case "webm":
            return head[:4] == b"\x1a\x45\xdf\xa3" and b"\x42\x82\x84webm" in head[:64]
        case "heic":
            return head[4:8] == b"ftyp" and brand in _HEIC
        case "m4a":  # recorders of some phones write the brand of a video
            return head[4:8] == b"ftyp" and brand.startswith((b"M4A", *_MP4))
        case "mp4":
            return head[4:8] == b"ftyp" and brand.startswith(_MP4)
        case "mov":
            return (head[4:8] == b"ftyp" and brand == b"qt  ") or head[4:8] in (b"moov", b"mdat", b"wide")
    return head.startswith(_SIGNATURES.get(kind, ()))


def _is_mp3_frame(head: bytes) -> bool:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # sync, layer III
        return False
    return head[1] & 0x18 != 0x08 and head[2] >> 4 not in (0, 15) and head[2] & 0x0C != 0x0C


def sniffed(head: bytes) -> frozenset[str]:
    """Extensions, lower case without dots, of everything that the library takes these first bytes for."""
    try:
        found = puremagic.magic_string(head[:_SNIFF_BYTES])
    except (puremagic.PureError, ValueError):
        return frozenset()
    return frozenset(one.extension.lstrip(".").lower() for one in found if one.extension)


def of_content(kind: Kind, head: bytes, tail: bytes, size: int) -> Reason | None:
    candidates = sniffed(head)
    if _is(kind.name, head):
        return None if not candidates or candidates & kind.sniffed else Reason.MISMATCH
    if kind.family is Family.ARCHIVE and zips.holds_zip(tail):
        return Reason.POLYGLOT  # an archive behind something else
    others = any(_is(other.name, head) for other in kinds.KINDS) or _text_encoding(head, size) is not None
    return Reason.MISMATCH if others or candidates else Reason.UNKNOWN


_STRANGERS: Final = re.compile(rb"Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|%PDF-|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
_PICTURES_AND_SOUND: Final = (Family.IMAGE, Family.AUDIO, Family.VIDEO)


def is_encrypted_package(head: bytes, tail: bytes) -> bool:
    """Whether this is a new Office file with a password: [MS-OFFCRYPTO] 2.3.4, a compound file around it."""
    name = "EncryptedPackage".encode("utf-16-le")
    return head.startswith(_OLE) and (name in head or name in tail)


def of_polyglot(kind: Kind, head: bytes, tail: bytes) -> Reason | None:
    """Files that somebody else's reader would take for something else."""
    if kind.family in _PICTURES_AND_SOUND:
        for part in (head[8:], tail):  # what is as short as 8 bytes cannot be two things
            if _MARKUP_IN_NOISE.search(part) or _STRANGERS.search(part):
                return Reason.POLYGLOT
        return Reason.POLYGLOT if zips.holds_zip(tail) else None
    if kind.name == "pdf":
        after = tail[tail.rfind(b"%%EOF") + 5 :] if b"%%EOF" in tail else b""
        if _MARKUP.search(head[:1024]) or _MARKUP_IN_NOISE.search(after) or _STRANGERS.search(after):
            return Reason.POLYGLOT
        return Reason.POLYGLOT if zips.holds_zip(tail) else None
    return None


# --- text ---------------------------------------------------------------------------------------------------------

_CONTROLS: Final = bytes([*range(0x09), *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F])
# A cell that has a spreadsheet start a program; every part is bounded, so that no text makes this slow.
_DDE: Final = re.compile(
    rb"(?:^|[,;\t\"])[ ]{0,8}[=+@-][ ]{0,8}\w{1,32}[ ]{0,8}\|[^\n]{0,256}!", re.MULTILINE
)
_XML_HARM: Final = re.compile(
    rb"<!doctype|<!entity|<\?xml-stylesheet|www\.w3\.org/(?:1999/xhtml|2000/svg)", re.IGNORECASE
)
_MAIL: Final = re.compile(
    rb"^(?:from|received|date|subject|mime-version|message-id):", re.IGNORECASE | re.MULTILINE
)


def of_text(kind: Kind, head: bytes, tail: bytes, size: int) -> Reason | None:
    """Text is what decodes as text, end to end of what we have, and is not a page or a command in disguise."""
    others = [
        other.name for other in kinds.KINDS if other.family is not Family.TEXT and _is(other.name, head)
    ]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        wide = head[:_SNIFF_BYTES].replace(b"\0", b"").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
        if _MARKUP.search(wide):
            return Reason.ACTIVE
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) and not others:
            return Reason.ENCODING
    if head.startswith((b"%PDF-", b"{\\rtf", b"%!PS")):  # formats that are text to the eye
        return Reason.MISMATCH
    encoding = _text_encoding(head, size)
    whole = len(head) >= size  # then the tail is the same again
    if encoding is None or (not whole and _ending_encoding(tail, size, encoding) is None):
        return Reason.MISMATCH if others or sniffed(head) - {"", "txt"} else Reason.UNKNOWN
    for part in (head,) if whole else (head, tail):
        # what a pattern cannot do without is looked for first: that takes a hundredth of the time
        if kind.name != "eml" and b"<" in part and _MARKUP.search(part):
            return Reason.ACTIVE
        if kind.name == "xml" and _XML_HARM.search(part):
            return Reason.ACTIVE
        if kind.name == "csv" and b"|" in part and b"!" in part and _DDE.search(part):
            return Reason.SCRIPT
    if kind.name == "xml" and not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return Reason.MISMATCH
    if kind.name == "eml" and not _MAIL.search(head[:_SNIFF_BYTES]):
        return Reason.MISMATCH
    return None


def _has_controls(text: bytes) -> bool:
    return len(text.translate(None, _CONTROLS)) != len(text)


def _text_encoding(head: bytes, size: int) -> str | None:
    """utf-8 or gb18030 if the beginning is text in it; the last character may be cut when more follows."""
    if _has_controls(head):
        return None
    for encoding in ("utf-8", "gb18030"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(head, final=len(head) >= size)
        except UnicodeDecodeError:
            continue
        return encoding
    return None


def _ending_encoding(tail: bytes, size: int, encoding: str) -> str | None:
    """The same for the end, which begins in the middle of a line when there is more before it.

    GB18030 can be begun again only after a byte that is no second half; so whole lines are looked at.
    """
    if len(tail) < size:
        tail = tail[tail.find(b"\n") + 1 :]
    if _has_controls(tail):
        return None
    for one in (encoding, "gb18030"):
        try:
            tail.decode(one)
        except UnicodeDecodeError:
            continue
        return one
    return None
