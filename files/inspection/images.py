"""Small pictures and cleaned pictures. Runs in the workshop only: Pillow must not be where the service is.

What "cleaned" means for each kind, measured in tests/files/test_images.py:

    JPEG          decoded and coded again with its own tables and sampling; nearly the same samples. Turned upright
                  first where EXIF says so, and then coded at quality 92
    PNG           lossless, animations too
    GIF           lossless; frames are put together again, times and loops stay
    WebP          lossless where it was, else quality 90: the format does not tell what it was coded with
    HEIC          becomes a JPEG of quality 92, which every browser shows; the first picture, its film is left

EXIF, XMP, IPTC, comments and whatever follows the picture are gone, ICC profiles stay (an RGB picture without its own
would have other colours). Maker notes, depth maps and the film in a "live photo" are lost.
"""

from __future__ import annotations

import errno
import io
from typing import IO, Any, BinaryIO, Final, cast

import pi_heif
from PIL import Image, ImageOps, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, UnidentifiedImageError

from files.inspection.values import ImageLimits, Images, Picture, Unreadable

Image.MAX_IMAGE_PIXELS = None  # we ask before anything is decoded, and at the exact number
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
_FORMATS: Final = ("JPEG", "PNG", "GIF", "WEBP", "HEIF")  # an MPO is opened as a JPEG
_ICC_BYTES: Final = 1 << 20  # the largest in use, of printing houses, are half of it


LIMITS: Final = ImageLimits()


def make(file: BinaryIO, clean: BinaryIO | None, limits: ImageLimits = LIMITS) -> Images | Unreadable:
    """Look at the picture, write its cleaned form to `clean`, make the two small ones."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > limits.pixels or max(width, height) > limits.side:
                return Unreadable("pixels")
            frames = _frames(image, limits)
            if frames is None:
                return Unreadable("pixels")
            out = cast("IO[bytes]", _Whole(clean)) if clean is not None else None
            return _made(image, frames, out, _is_lossless_webp(file), limits)
    except MemoryError:
        return Unreadable("memory")
    except UnidentifiedImageError:
        return Unreadable("broken")
    except OSError as error:  # EFBIG: the cleaned picture is larger than this process may write
        return Unreadable("limit" if error.errno == errno.EFBIG else "broken")
    except (ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError):
        return Unreadable("broken")  # what Pillow's plugins raise for files that are not as they should be
    except RuntimeError as error:  # of libheif, where it is no RecursionError
        return Unreadable("limit" if isinstance(error, RecursionError) else "broken")


class _Whole:
    """A file without a descriptor. To one with, Pillow's encoders write by themselves and take half a write, on a full
    disk or at the limit of this process, for a whole one: the picture would be cut and nobody told."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write
        self.flush = file.flush
        self.seek = file.seek
        self.tell = file.tell


def _frames(image: Image.Image, limits: ImageLimits) -> int | None:
    """How many, counted only as far as they are allowed; None when there are more."""
    if image.format in ("JPEG", "MPO", "HEIF"):
        return 1  # the other pictures of an MPO or HEIC are depth maps and previews of the camera
    width, height = image.size
    allowed = min(limits.frames, max(1, limits.frame_pixels // max(1, width * height)))
    if image.format != "GIF":
        count = int(getattr(image, "n_frames", 1))
        return count if count <= allowed else None
    count = 1  # asking a GIF for n_frames walks through all of it, however many there are
    try:
        while count <= allowed:
            image.seek(count)
            if image.size[0] * image.size[1] > limits.pixels:
                return None
            count += 1
    except EOFError:
        image.seek(0)
        return count
    return None


def _made(
    image: Image.Image, frames: int, clean: IO[bytes] | None, lossless: bool, limits: ImageLimits
) -> Images:
    image.load()
    turned = image.getexif().get(0x0112, 1) not in (0, 1)
    upright = ImageOps.exif_transpose(image) if turned else image
    width, height = upright.size
    shown = _shown(upright)
    how = _clean(image, upright, turned, frames, lossless, clean) if clean is not None else ""
    shown.thumbnail((limits.preview, limits.preview), Image.Resampling.LANCZOS, reducing_gap=3.0)
    preview = _picture(shown)
    shown.thumbnail((limits.thumbnail, limits.thumbnail), Image.Resampling.LANCZOS, reducing_gap=3.0)
    average = shown.convert("RGB").resize((1, 1), Image.Resampling.BOX).tobytes()
    return Images(width, height, frames, how, f"#{average.hex()}", _picture(shown), preview)


def _shown(image: Image.Image) -> Image.Image:
    """A copy as RGB, or RGBA where something shows through."""
    profile = image.info.get("icc_profile")
    see_through = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if image.mode.startswith("I"):  # 16 bits of grey: convert() would cut, not scale
        copy = image.point(lambda value: value / 256).convert("L").convert("RGB")
    else:
        copy = image.convert("RGBA" if see_through else "RGB")
    if copy is image:
        copy = image.copy()
    copy.info = {}
    if profile and image.mode in ("RGB", "RGBA", "P") and len(profile) <= _ICC_BYTES:
        copy.info["icc_profile"] = profile  # that of a CMYK or grey picture would not fit RGB
    return copy


def _picture(image: Image.Image) -> Picture:
    out = io.BytesIO()
    profile = image.info.get("icc_profile")
    if image.mode == "RGBA":
        image.save(out, "WEBP", quality=80, method=3, icc_profile=profile, exif=b"", xmp=b"")
        return Picture("image/webp", image.width, image.height, out.getvalue())
    image.save(out, "JPEG", quality=82, optimize=True, progressive=True, icc_profile=profile, comment=b"")
    return Picture("image/jpeg", image.width, image.height, out.getvalue())


def _clean(
    image: Image.Image, upright: Image.Image, turned: bool, frames: int, lossless: bool, out: IO[bytes]
) -> str:
    """Write the picture without what is not picture; how that was done."""
    profile = image.info.get("icc_profile") or b""
    profile = profile if len(profile) <= _ICC_BYTES else b""
    if isinstance(image, JpegImagePlugin.JpegImageFile | MpoImagePlugin.MpoImageFile):
        how: dict[str, Any] = {"quality": 92, "subsampling": JpegImagePlugin.get_sampling(image)}
        if not turned:
            how = {"qtables": image.quantization, "subsampling": JpegImagePlugin.get_sampling(image)}
        if how["subsampling"] < 0:
            del how["subsampling"]
        progressive = bool(image.info.get("progressive"))
        upright.save(
            out, "JPEG", icc_profile=profile, comment=b"", exif=b"", xmp=b"", progressive=progressive, **how
        )
        return "reencoded" if turned else "requantised"
    several = frames > 1
    if isinstance(image, PngImagePlugin.PngImageFile):
        source = image if several else upright
        source.info.pop("exif", None)
        source.save(out, "PNG", save_all=several, icc_profile=profile or None, exif=b"")
        return "lossless"
    if image.format == "HEIF":
        upright.convert("RGB").save(
            out, "JPEG", quality=92, icc_profile=profile, comment=b"", exif=b"", xmp=b""
        )
        return "converted"
    if image.format == "GIF":
        image.info.pop("comment", None)
        image.save(out, "GIF", save_all=several, comment=b"")
        return "lossless"
    how = {"lossless": True, "exact": True} if lossless else {"quality": 90, "method": 4}
    if several:
        how["duration"] = _durations(image, frames)
        how["loop"] = image.info.get("loop", 0)
    source = image if several else upright
    source.save(out, "WEBP", save_all=several, icc_profile=profile, exif=b"", xmp=b"", **how)
    return "lossless" if lossless else "reencoded"


def _is_lossless_webp(file: BinaryIO) -> bool:
    """Whether its first picture is coded without loss: the chunk is called VP8L, not VP8."""
    at = file.tell()
    file.seek(0)
    beginning = file.read(64 << 10)  # behind a profile, which comes first
    file.seek(at)
    return b"VP8L" in beginning and b"VP8 " not in beginning


def _durations(image: Image.Image, frames: int) -> list[int]:
    times = []
    for number in range(frames):
        image.seek(number)
        image.load()
        times.append(int(image.info.get("duration", 0)))
    image.seek(0)
    return times
