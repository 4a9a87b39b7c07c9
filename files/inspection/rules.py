"""Is a file what it says it is, and may it be sent? Bytes in, a verdict out; nothing is unpacked or decoded here.

Extension and content must agree; the declared type is a hint of the sender's program and can only make things worse.
OWASP ASVS 5.0, 5.2.2; WHATWG MIME Sniffing, 7.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from files.inspection import content, kinds, zips
from files.inspection.kinds import Family, Kind, Work
from files.inspection.names import clean_name, extension_of
from files.inspection.reasons import TEXTS, Reason
from files.inspection.values import Document, Finding, Listing, Office

HEAD_BYTES: Final = 64 << 10  # signatures are in the first few; a comment of a JPEG may be 64 KiB
TAIL_BYTES: Final = 256 << 10  # the directory of an Office file with two thousand parts
_SNIFF_BYTES: Final = (
    4096  # what the library gets: its time grows with it, no signature in our table lies further
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a bank decides for itself; the defaults are the careful ones."""

    macros: bool = (
        False  # Office files with macros, PDFs with scripts: accepted, and `Verdict.macros` says so
    )
    encrypted: bool = False  # archives and documents that no scanner can look into


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` is set when the file is accepted so far; what `kind.work` names must still be done and `confirm`ed."""

    name: str  # cleaned
    kind: Kind | None = None
    refusal: Reason | None = None
    macros: bool = False

    @property
    def accepted(self) -> bool:
        return self.refusal is None

    @property
    def text(self) -> str:
        """For people; empty when accepted."""
        return TEXTS[self.refusal] if self.refusal else ""


CAREFUL: Final = Policy()


def decide(
    name: str, declared_type: str, head: bytes, tail: bytes, size: int, policy: Policy = CAREFUL
) -> Verdict:
    """The verdict about a file of `size` bytes.

    `head` and `tail` are its first `HEAD_BYTES` and last `TAIL_BYTES`, or all of it where it is shorter.
    `declared_type` is what the sender's program called it, or empty.
    """
    assert len(head) >= min(size, HEAD_BYTES)
    assert len(tail) >= min(size, TAIL_BYTES)
    clean = clean_name(name)
    kind = kinds.BY_EXTENSION.get(extension_of(clean))
    reason, macros = _reason(clean, kind, declared_type, head, tail, size, policy)
    return Verdict(clean, None if reason else kind, reason, macros)


def of_name(clean: str) -> Reason | None:
    """What speaks against a file before a byte of it has come: `clean` is as `clean_name` gives it."""
    extension = extension_of(clean)
    return None if extension in kinds.BY_EXTENSION else _of_extension(extension)


def confirm(verdict: Verdict, seen: Document | Office | Listing, policy: Policy = CAREFUL) -> Verdict:
    """An accepted verdict after the workshop has looked into a document or an archive."""
    assert verdict.kind is not None
    if isinstance(seen, Document):
        reason, macros = (Reason.SCRIPTED if seen.active and not policy.macros else None), seen.active
    elif isinstance(seen, Office):
        reason = _of_office(verdict.kind, seen, policy)
        macros = verdict.macros or seen.macros
    else:
        reason, macros = _of_listing(seen, policy), verdict.macros
    return replace(verdict, kind=None if reason else verdict.kind, refusal=reason, macros=macros)


def _of_office(kind: Kind, seen: Office, policy: Policy) -> Reason | None:
    if seen.encrypted:
        return None if policy.encrypted else Reason.ENCRYPTED
    if seen.kind != kind.name.replace("docm", "docx").replace("xlsm", "xlsx").replace("pptm", "pptx"):
        return Reason.MISMATCH
    if seen.macros and not policy.macros:
        return Reason.MACROS
    return Reason.TEMPLATE if seen.external else None


_FINDINGS: Final[dict[Finding, Reason]] = {
    Finding.BROKEN: Reason.UNREADABLE,
    Finding.ENTRIES: Reason.BOMB,
    Finding.INFLATED: Reason.BOMB,
    Finding.RATIO: Reason.BOMB,
    Finding.OVERLAP: Reason.BOMB,
    Finding.NESTED: Reason.BOMB,
    Finding.EXECUTABLE: Reason.EXECUTABLE,
    Finding.PATH: Reason.ARCHIVE,
    Finding.LINK: Reason.ARCHIVE,
    Finding.DUPLICATE: Reason.ARCHIVE,
    Finding.HIDDEN: Reason.POLYGLOT,
    Finding.ENCRYPTED: Reason.ENCRYPTED,
}


def _of_listing(seen: Listing, policy: Policy) -> Reason | None:
    for finding, reason in _FINDINGS.items():
        if finding in seen.findings and not (finding is Finding.ENCRYPTED and policy.encrypted):
            return reason
    return None


def _reason(
    clean: str, kind: Kind | None, declared: str, head: bytes, tail: bytes, size: int, policy: Policy
) -> tuple[Reason | None, bool]:
    if size == 0:
        return Reason.EMPTY, False
    if kind is None:
        return _of_extension(extension_of(clean)), False
    if size > kind.max_bytes:
        return Reason.TOO_LARGE, False
    reason = content.dangerous(head) or (
        content.of_text(kind, head, tail, size)
        if kind.family is Family.TEXT
        else _of_content(kind, head, tail, size, policy)
    )
    macros = False
    if reason is None and head.startswith(content.ZIP):
        reason, macros = _of_zip(kind, tail, size, policy)
    return reason or _of_declared(kind, declared), macros


def _of_content(kind: Kind, head: bytes, tail: bytes, size: int, policy: Policy) -> Reason | None:
    if kind.name in content.OFFICE and content.is_encrypted_package(head, tail):
        return None if policy.encrypted else Reason.ENCRYPTED  # the workshop looks whether it is
    return content.of_content(kind, head, tail, size) or content.of_polyglot(kind, head, tail)


def _of_extension(extension: str) -> Reason:
    if extension in kinds.EXECUTABLES:
        return Reason.EXECUTABLE
    if extension in kinds.SCRIPTS:
        return Reason.SCRIPT
    return Reason.ACTIVE if extension in kinds.ACTIVE else Reason.EXTENSION


def _of_zip(kind: Kind, tail: bytes, size: int, policy: Policy) -> tuple[Reason | None, bool]:
    """What the names in a ZIP make of it."""
    names = _zip_names(tail, size)
    if names is None:
        if kind.family is Family.ARCHIVE and kind.work is Work.ARCHIVE and len(tail) < size:
            return None, False  # a directory larger than what we have here: the workshop reads all of it
        return Reason.UNREADABLE, False
    if names & {"meta-inf/manifest.mf", "androidmanifest.xml", "classes.dex"} or any(
        name.startswith("payload/") and ".app/" in name for name in names
    ):
        return Reason.EXECUTABLE, False
    if kind.name == "ofd":
        return (None if "ofd.xml" in names else Reason.MISMATCH), False
    if kind.name not in content.OFFICE:
        return None, False
    tops = {name.partition("/")[0] + "/" for name in names} & set(content.OFFICE.values())
    if "[content_types].xml" not in names or tops != {content.OFFICE[kind.name]}:
        return Reason.MISMATCH, False
    macros = kind.macros or any(
        name.endswith(("vbaproject.bin", "vbadata.xml")) or "/macrosheets/" in name for name in names
    )
    return (Reason.MACROS if macros and not policy.macros else None), macros


def _zip_names(tail: bytes, size: int) -> frozenset[str] | None:
    try:
        end = zips.find_end(tail, size)
        start = end.start - (size - len(tail))
        if start < 0 or end.prefix:
            return None
        found = zips.entries(tail[start : start + end.size], end.count)
        return frozenset(entry.name.lower().replace("\\", "/") for entry in found)
    except zips.BrokenZip:
        return None


# --- what the sender's program said -------------------------------------------------------------------------------

_DECLARED_ACTIVE: Final = re.compile(
    r"text/html|application/xhtml|image/svg|javascript|ecmascript|x-msdownload|x-msdos|x-sh\b|x-httpd|java-archive"
    r"|vnd\.android\.package|hta\b|x-shockwave"
)


def _of_declared(kind: Kind, declared: str) -> Reason | None:
    """Programs call a CSV an Excel file and everything an octet stream; only a plain contradiction counts."""
    said = declared.partition(";")[0].strip().lower()
    if _DECLARED_ACTIVE.search(said):
        return Reason.DECLARED
    top, _, _ = said.partition("/")
    if top not in ("image", "audio", "video"):
        return None
    allowed = {"audio", "video"} if kind.family in (Family.AUDIO, Family.VIDEO) else {kind.family.value}
    return None if top in allowed else Reason.DECLARED
