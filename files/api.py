"""The contract of files: uploads, the files that come of them, and the addresses they are read by.

Bytes do not go through actions. They stream through the doors of the HTTP edge (`files.doors`): one request that
brings a whole file, resumable uploads (tus 1.0), or parts that a client puts straight into the store; and out again
by short-lived addresses. The actions here decide who may, and remember what there is. Times are ms since the epoch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from core.actions import STAFF, Bytes, Command, Event, Id, Permission, Value
from core.db import Queries
from files.library import store

FILES_READ = Permission("files:read", "查看文件", STAFF, risk=2, scope=True)
FILES_SEND = Permission("files:send", "上传文件", STAFF, risk=1, scope=True)
FILES_MANAGE = Permission("files:manage", "管理企业文件的空间、加密和保全", {"administrator", "boss"}, risk=2)

Name = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
"""As somebody's program says it; kept cleaned, and cut to 255 bytes with its extension."""
MediaType = Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9][a-z0-9.+-]{0,126}$")]
Size = Annotated[int, Field(ge=0, le=1 << 46)]
Sha256 = Annotated[Bytes, Field(min_length=32, max_length=32)]
Sm3 = Annotated[Bytes, Field(min_length=32, max_length=32)]
UploadKey = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")]

State = Literal["checking", "ready", "quarantined", "removed"]
Way = Literal["tus", "direct"]
Variant = Literal["original", "thumbnail", "preview"]
HolderKind = Literal["stream", "approval", "receipt"]
HoldKind = Literal["enterprise", "person", "stream", "file"]


class File(Value):
    """A file. `media_type`, `facts` and `digest` (SHA-256 of what is stored) are there once it is ready.

    `facts` of images are width and height, of documents pages, of sounds duration_ms, of archives entries. `cleaned`:
    what is stored is not byte for byte what was uploaded, because what tells about the photographer was taken out.
    """

    file_id: Id
    name: str
    size_bytes: int
    media_type: str | None
    state: State
    reason: str | None  # of quarantined ones: a stable code
    digest: Bytes | None
    facts: dict[str, Any]
    variants: list[Variant]
    cleaned: bool
    uploaded_by: Id
    created_ms: int


class Files(Value):
    """A page of files, the newest first; `next` is the `before` of the following page."""

    files: list[File]
    next: Id | None


class Allowance(Value):
    """What may be uploaded now: sizes in bytes."""

    name: str  # as it will be kept
    max_bytes: int
    left_bytes: int
    own_key: bool  # encrypted with the enterprise's own key: no direct uploads


class Upload(Value):
    """An upload in parts. `received_bytes` is what is stored for good; the rest comes from there on."""

    upload_id: Id
    way: Way
    name: str
    size_bytes: int
    received_bytes: int
    part_bytes: int
    state: Literal["open", "finishing", "done", "aborted"]
    file_id: Id | None
    expires_ms: int


class PartAddress(Value):
    """Where one part goes: PUT exactly `size_bytes` there before `expires_ms`, keep the ETag of the answer."""

    number: int
    size_bytes: int
    url: str
    expires_ms: int


class Link(Value):
    """An address that anybody may read who has it, until `expires_ms`."""

    file_id: Id
    variant: Variant
    url: str
    expires_ms: int


class ArchiveEntry(Value):
    """A line of an archive's directory, as that claims: nothing is unpacked. The name is for showing only."""

    name: str
    size: int
    folder: bool


class Usage(Value):
    """How much room is taken, in bytes and files; of oneself and of the whole enterprise."""

    person_bytes: int
    person_files: int
    person_quota_bytes: int
    enterprise_bytes: int
    enterprise_files: int
    enterprise_quota_bytes: int


class Policy(Value):
    """How an enterprise keeps files. None: the bank's default."""

    own_key: bool = False  # encrypted with a key of its own (SM4), on top of what the store does
    quota_bytes: Size | None = None
    person_quota_bytes: Size | None = None


class Hold(Value):
    """Nothing of this is deleted until the hold is lifted."""

    hold_id: Id
    kind: HoldKind
    object_id: Id  # 0: of the enterprise
    reason: str
    placed_by: Id
    placed_ms: int


# --- uploads ---------------------------------------------------------------------------------------------------------


class CheckUpload(Command[Allowance], action="files.uploads.check"):
    """Whether a file of this name and size may be uploaded now."""

    name: Name
    size_bytes: Size


class BeginUpload(Command[Upload], action="files.uploads.begin"):
    """Begin an upload in parts: resumable through us (tus), or straight into the store (direct).

    Direct ones need the SHA-256 digest beforehand, because their bytes are not seen on the way.
    """

    name: Name
    size_bytes: Annotated[Size, Field(ge=1)]
    media_type: MediaType | None = None
    way: Way = "tus"
    sha256: Sha256 | None = None
    sm3: Sm3 | None = None


class GetUpload(Command[Upload], action="files.uploads.get"):
    """How far an upload of one's own is."""

    upload_id: Id


class SignParts(Command[list[PartAddress]], action="files.uploads.sign_parts"):
    """Addresses for parts of a direct upload of one's own."""

    upload_id: Id
    numbers: Annotated[list[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=1, max_length=100)]


class FinishUpload(Command[File], action="files.uploads.finish"):
    """All parts of a direct upload are stored: make it a file."""

    upload_id: Id


class AbortUpload(Command[None], action="files.uploads.abort"):
    """Give an upload of one's own up; what was stored of it goes."""

    upload_id: Id


# --- files -----------------------------------------------------------------------------------------------------------


class GetFiles(Command[list[File]], action="files.library.get"):
    """These files, as far as they are there and one's own to see; in the order asked for."""

    file_ids: Annotated[list[Id], Field(min_length=1, max_length=100)]


class ListFiles(Command[Files], action="files.library.list"):
    """What one has uploaded."""

    before: Id | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class MakeLinks(Command[list[Link]], action="files.library.links"):
    """Short-lived addresses of files one may see; those that are not there or not ready are left out."""

    file_ids: Annotated[list[Id], Field(min_length=1, max_length=100)]
    variant: Variant = "original"
    inline: bool = False  # to be shown, where that is safe; else it is saved


class RemoveFile(Command[None], action="files.library.remove"):
    """Take back a file of one's own that nothing refers to."""

    file_id: Id


class ListEntries(Command[list[ArchiveEntry]], action="files.library.entries"):
    """What is in an archive, the first thousand entries."""

    file_id: Id


# --- room, encryption, holds -----------------------------------------------------------------------------------------


class GetUsage(Command[Usage], action="files.room.usage"):
    """How much room is taken and how much there is."""


class GetPolicy(Command[Policy], action="files.room.policy"):
    """How this enterprise keeps files."""


class SetPolicy(Command[Policy], action="files.room.set_policy"):
    """Change it: for files uploaded from now on."""

    own_key: bool
    quota_bytes: Size | None = None
    person_quota_bytes: Size | None = None


class PlaceHold(Command[Hold], action="files.holds.place"):
    """Keep the files of a conversation, a person, one file or all of the enterprise, whatever is deleted."""

    kind: HoldKind
    object_id: Id = 0
    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class LiftHold(Command[None], action="files.holds.lift"):
    """End a hold."""

    hold_id: Id


class ListHolds(Command[list[Hold]], action="files.holds.list"):
    """Holds that are in force."""


# --- for the doors and for other services ----------------------------------------------------------------------------


class Keep(Command[File], action="files.uploads.keep"):
    """For the door: a whole file lies in the store as `object_id`. Raises what speaks against keeping it."""

    object_id: Id
    name: Name
    size_bytes: Size
    media_type: MediaType | None  # as declared
    kind: str  # as the door has seen from its bytes
    sha256: Sha256
    sm3: Sm3 | None  # where it was declared: then it agreed
    wrapped_key: Bytes | None  # wrapped; None: stored as it came
    key: UploadKey | None


class Made(Value):
    """An object that was made of a file: a variant, or the clean copy (`original`)."""

    variant: Variant
    object_id: Id
    media_type: str
    size_bytes: int
    wrapped_key: Bytes | None


class Settle(Command[None], action="files.library.settle"):
    """For the one who looked into it: what came of it. Digest and size are of what people will get."""

    file_id: Id
    state: State
    reason: str | None
    kind: str | None
    sha256: Sha256
    size_bytes: Size
    facts: dict[str, Any]
    cleaned: Made | None
    variants: list[Made]
    scanned: Annotated[str, StringConstraints(max_length=100)] | None  # by what; None: there is no scanner


class Condemn(Command[None], action="files.library.condemn"):
    """For the one who scans again: malware was found in a content that is kept."""

    content_id: Id


class Settled(Command[File], action="files.library.settled"):
    """For the door: the file when it has been checked, or after `wait_s` as it is."""

    file_id: Id
    wait_s: float


class Ticket(Value):
    """What a writer needs to go on with an upload; `epoch` is of this writer, and a later one takes over from it."""

    upload: Upload
    object_id: Id
    multipart: str
    epoch: int
    next_part: int
    tail_bytes: int  # of an unfinished part, kept as an object of its own
    tail_epoch: int  # of the writer who put it there
    wrapped_key: Bytes | None
    sha256: Bytes | None
    sm3: Bytes | None
    media_type: MediaType | None  # as declared


class Claim(Command[Ticket], action="files.uploads.claim"):
    """For the door: become the writer of an upload of the caller's, who goes on at `offset`.

    Where it does not go on there, nobody is taken over from: the ticket says how it is.
    """

    upload_id: Id
    offset: Size


class Advance(Command[Upload], action="files.uploads.advance"):
    """For the door: the next part is stored, or a tail of less than a part. Raises `Conflict` for who is not the
    writer any more, and for a part that is not the next one."""

    upload_id: Id
    epoch: int
    part: int | None
    etag: str | None
    size_bytes: int
    tail_bytes: int


class Complete(Command[File], action="files.uploads.complete"):
    """For the door: everything is stored. Digests and kind are given where one request brought all of it, else the
    store is asked for the bytes again. Nobody writes any more then, so anybody may say it, whatever the epoch."""

    upload_id: Id
    epoch: int
    kind: str | None
    sha256: Sha256 | None
    sm3: Sm3 | None


class Place(Value):
    """Where the bytes of a file or variant lie, and how they are shown."""

    object_id: Id
    size_bytes: int
    media_type: str
    name: str
    digest: Bytes
    wrapped_key: Bytes | None
    inline: bool  # whether it may be shown, not only saved


class Locate(Command[Place], action="files.library.locate"):
    """For the door: where a file's bytes are. `visible`: an address was made for it, so nobody is asked again."""

    file_id: Id
    variant: Variant
    visible: bool


class EndUpload(Command[None], action="files.uploads.end"):
    """For the clean-up: nobody goes on with this upload. What is whole becomes a file, what is not is given up."""

    upload_id: Id
    person_id: Id


class Attach(Command[None], action="files.library.attach"):
    """For services: something refers to files of the caller's, so they stay as long as it does."""

    file_ids: Annotated[list[Id], Field(min_length=1, max_length=100)]
    holder: HolderKind
    holder_id: Id
    position: int = 0


class Release(Command[None], action="files.library.release"):
    """For services: it does not refer to them any more. Without ids to none."""

    file_ids: list[Id] | None
    holder: HolderKind
    holder_id: Id
    position: int | None = None


async def of_person(tx: Queries, person_id: int) -> list[dict[str, Any]]:
    """What a copy of somebody's data says of their files, in whichever enterprises; the bytes are fetched as ever."""
    return [dict(row) for row in await store.anywhere(tx, person_id)]


class FileSettled(Event, event="files.settled", webhook=True):
    """A file that was being checked is ready, or is quarantined."""

    file_id: Id
    person_id: Id
    state: State
    reason: str | None
