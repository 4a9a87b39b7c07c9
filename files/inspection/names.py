"""Names are data: what a person calls a file is shown, never believed and never a path."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

NAME_BYTES: Final = 255  # what file systems hold; also the column's
_EXTENSION_BYTES: Final = 24  # longer than that it is part of the name
UNNAMED: Final = "未命名"

# Dots and separators that look like ASCII's; the ideographic full stop does not and may be in a title.
_LOOKALIKES: Final = str.maketrans(
    {"．": ".", "﹒": ".", "․": ".", "／": "_", "⁄": "_", "∕": "_", "⧸": "_", "＼": "_", "﹨": "_", "⧵": "_"}
)
_FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')  # separators, and what Windows cannot have in a name
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)


def clean_name(name: str) -> str:
    """A name that is safe to show, to save and to put into a header; never empty, at most 255 bytes of UTF-8.

    Dropped: control and format characters (so no text runs backwards), line separators, halves of characters.
    Made one: spaces of every kind; spaces beside the dots. Replaced by ``_``: separators and what Windows refuses.
    The extension is in ASCII where it only looked different. Cleaning again changes nothing.
    """
    text = unicodedata.normalize("NFC", name).translate(_LOOKALIKES)
    text = "".join(" " if unicodedata.category(one) == "Zs" else one for one in text if _kept(one))
    text = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text))
    text = re.sub(r" +", " ", re.sub(r" *\. *", ".", text)).strip(" .")
    stem, dot, extension = text.rpartition(".")
    if dot and _plain(extension).isascii():
        extension = _FORBIDDEN.sub("_", _plain(extension)).strip(" .")
        text = f"{stem}.{extension}" if extension else stem
    if not text:
        text = UNNAMED
    if _DEVICES.match(text):
        text = f"_{text}"
    return _cut(text)


def extension_of(name: str) -> str:
    """The last extension of a cleaned name, lower case, without its dot; empty when there is none."""
    _, dot, extension = name.rpartition(".")
    return extension.lower() if dot else ""


def content_disposition(name: str, inline: bool) -> str:
    """The header's value by RFC 6266, with the name by RFC 8187 and an ASCII one for those who do not know that.

    `name` is cleaned here once more, so that nothing a caller forgets can break the header.
    """
    clean = clean_name(name)
    fallback = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", clean)
    stem, dot, extension = fallback.rpartition(".")
    if not re.search(r"[A-Za-z0-9]", stem if dot else fallback):
        fallback = f"file.{extension}" if dot else "file"
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{fallback}\"; filename*=UTF-8''{quote(clean, safe='')}"


def _kept(one: str) -> bool:
    """Private use stays: rare family names live there. Unassigned ones too: the next Unicode assigns them."""
    category = unicodedata.category(one)
    noncharacter = 0xFDD0 <= ord(one) <= 0xFDEF or ord(one) & 0xFFFE == 0xFFFE
    return category not in ("Cc", "Cf", "Cs", "Zl", "Zp") and not noncharacter


def _plain(extension: str) -> str:
    return unicodedata.normalize("NFKC", extension)


def _cut(text: str) -> str:
    if len(text.encode()) <= NAME_BYTES:
        return text
    stem, dot, extension = text.rpartition(".")
    if not dot or len(extension.encode()) > _EXTENSION_BYTES:
        stem, ending = text, ""
    else:
        ending = f".{extension}"
    kept = stem.encode()[: NAME_BYTES - len(ending.encode())].decode(errors="ignore")
    while kept and len(kept) < len(stem) and unicodedata.combining(stem[len(kept)]):
        kept = kept[:-1]  # an accent without its letter would be another name
    return (kept.rstrip(" .") or UNNAMED) + ending
