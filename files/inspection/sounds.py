"""How long a voice note or recording is. Runs in the workshop only."""

from __future__ import annotations

from typing import BinaryIO, Final

from tinytag import TinyTag, TinyTagException

from files.inspection.values import Sound, Unreadable

# Bytes of a frame of 20 ms with its header, by the frame type in the header. RFC 4867, 3GPP TS 26.101 and 26.201.
_NARROW: Final = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)
_WIDE: Final = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)
_FRAME_MS: Final = 20
_LONGEST_MS: Final = 24 * 3600 * 1000  # what claims more is no recording


def length(file: BinaryIO) -> Sound | Unreadable:
    """Its length in ms, as the container or its frames say."""
    beginning = file.read(9)
    if beginning.startswith(b"#!AMR"):
        file.seek(0)
        return _amr(file.read())
    file.seek(0)
    try:
        seconds = TinyTag.get(file_obj=file, filename=None, tags=False, duration=True).duration
    except MemoryError:
        return Unreadable("memory")
    except (
        TinyTagException,
        ValueError,
        KeyError,
        IndexError,
        OSError,
        ArithmeticError,
        TypeError,
        AttributeError,
    ):
        return Unreadable("broken")
    except Exception as error:
        return Unreadable("broken" if not isinstance(error, RecursionError) else "limit")
    if seconds is None or not 0 < seconds * 1000 <= _LONGEST_MS:
        return Unreadable("broken")
    return Sound(round(seconds * 1000))


def _amr(data: bytes) -> Sound | Unreadable:
    wide = data.startswith(b"#!AMR-WB\n")
    sizes, at = (_WIDE, 9) if wide else (_NARROW, 6)
    frames = 0
    while at < len(data):
        size = sizes[data[at] >> 3 & 15]
        if size == 0:
            return Unreadable("broken")
        at += size
        frames += at <= len(data)
    return Sound(frames * _FRAME_MS) if frames else Unreadable("broken")
