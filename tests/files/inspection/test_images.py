"""F06: pictures are made again without what is not picture, and only after we know how large they are."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat, PngImagePlugin

from files.inspection import images
from files.inspection.values import ImageLimits, Images, Unreadable
from tests.files import samples

CANARY = b"CANARY"


def made(data: bytes, limits: ImageLimits = images.LIMITS) -> tuple[Images, bytes]:
    clean = io.BytesIO()
    answer = images.make(io.BytesIO(data), clean, limits)
    assert isinstance(answer, Images), answer
    return answer, clean.getvalue()


def unreadable(data: bytes, limits: ImageLimits = images.LIMITS) -> str:
    answer = images.make(io.BytesIO(data), io.BytesIO(), limits)
    assert isinstance(answer, Unreadable), answer
    return answer.why


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def same(one: Image.Image, other: Image.Image, within: int = 0) -> bool:
    difference = ImageChops.difference(one.convert("RGBA"), other.convert("RGBA"))
    return max(difference.tobytes()) <= within


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010E] = "CANARY description"
    tags.get_ifd(0x8825)[2] = (31.0, 14.0, 0.0)  # where it was taken
    return tags


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.requirement("F06")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_is_not_picture_is_gone_and_the_profile_stays(kind: str) -> None:
    data = samples.saved(
        samples.picture(), kind, exif=exif(), xmp=b"<x:xmpmeta>CANARY</x:xmpmeta>", icc_profile=PROFILE
    )
    if kind == "JPEG":
        marked = b"\xff\xfe\0\x08CANARY" + b"\xff\xed\0\x10Photoshop CANARY"[:2] + b"\0\x0eIPTC CANARY\0"
        data = data[:2] + marked + data[2:]
    assert CANARY in data
    _, clean = made(data + CANARY)
    assert CANARY not in clean
    image = opened(clean)
    assert image.format == kind
    assert not image.getexif()
    assert "xmp" not in image.info
    assert "comment" not in image.info
    assert image.info["icc_profile"] == PROFILE
    assert same(image, opened(data)) if kind == "PNG" else _alike(image, opened(data))


def _alike(one: Image.Image, other: Image.Image) -> bool:
    """The worst there is for subsampled colour, hard edges on a tiny picture: 5 of 255 on the average at most."""
    return max(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean) < 5


def test_words_in_png_and_gif_are_gone() -> None:
    assert CANARY in samples.png_texts()
    assert CANARY not in made(samples.png_texts())[1]
    data = samples.gif(3, comment=CANARY)
    assert CANARY in data
    assert CANARY not in made(data)[1]
    frames = samples.saved(
        samples.picture(),
        "PNG",
        save_all=True,
        append_images=[samples.picture().rotate(90)],
        exif=exif(),
        pnginfo=_words(),
    )
    assert CANARY in frames
    assert CANARY not in made(frames)[1]


def _words() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "CANARY")
    return info


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(kind: str, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    lying = samples.picture()
    upright = lying.transpose(turns[orientation]) if orientation > 1 else lying
    answer, clean = made(samples.saved(lying, kind, exif=exif(orientation), quality=95))
    assert (answer.width, answer.height) == upright.size
    assert opened(clean).size == upright.size
    thumbnail = opened(answer.thumbnail.data).convert("RGB")
    for corner in (
        (6, 6),
        (upright.width - 6, 6),
        (6, upright.height - 6),
        (upright.width - 6, upright.height - 6),
    ):
        for shown in (opened(clean).convert("RGB"), thumbnail):
            assert _near(shown, upright, corner)
    if kind == "JPEG":
        assert answer.cleaned == ("requantised" if orientation == 1 else "reencoded")


def _near(one: Image.Image, other: Image.Image, at: tuple[int, int]) -> bool:
    first, second = one.getpixel(at), other.getpixel(at)
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    return all(abs(a - b) < 40 for a, b in zip(first, second, strict=True))


def test_sizes_of_the_small_ones() -> None:
    answer, _ = made(samples.saved(samples.picture(4000, 1000), "JPEG"))
    assert (answer.width, answer.height, answer.frames) == (4000, 1000, 1)
    assert (answer.thumbnail.width, answer.thumbnail.height) == (360, 90)
    assert (answer.preview.width, answer.preview.height) == (1600, 400)
    for picture in (answer.thumbnail, answer.preview):
        assert picture.media_type == "image/jpeg"
        assert opened(picture.data).size == (picture.width, picture.height)
    small, _ = made(samples.png())
    assert (small.preview.width, small.preview.height) == (64, 48)  # nothing is made larger
    assert len(small.placeholder) == 7


def test_what_shows_through_still_does() -> None:
    see_through = samples.picture(mode="RGBA")
    see_through.putalpha(Image.linear_gradient("L").resize(see_through.size))
    answer, clean = made(samples.saved(see_through, "PNG"))
    assert same(opened(clean), see_through)
    assert answer.thumbnail.media_type == "image/webp"
    assert opened(answer.thumbnail.data).mode == "RGBA"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_kept_without_loss(mode: str) -> None:
    image = samples.picture().convert("L").convert("I;16") if mode == "I;16" else samples.picture(mode=mode)
    answer, clean = made(samples.saved(image, "PNG"))
    assert answer.cleaned == "lossless"
    assert opened(clean).mode == opened(samples.saved(image, "PNG")).mode
    assert opened(clean).tobytes() == image.tobytes()


def test_grey_and_cmyk_jpeg() -> None:
    for mode in ("L", "CMYK"):
        answer, clean = made(samples.saved(samples.picture(mode=mode), "JPEG"))
        assert opened(clean).mode == mode
        assert opened(answer.preview.data).mode == "RGB"


def test_a_jpeg_keeps_its_tables_and_sampling() -> None:
    data = samples.jpeg(quality=61, subsampling="4:4:4")
    first, clean = opened(data), opened(made(data)[1])
    assert isinstance(first, Image.Image)
    assert getattr(first, "quantization") == getattr(clean, "quantization")  # noqa: B009
    again = made(made(data)[1])[1]
    assert same(
        opened(again), opened(data), within=4
    )  # it does not get worse each time somebody passes it on


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_what_moves_still_moves(kind: str) -> None:
    frames = [samples.picture(40, 40).rotate(30 * n) for n in range(5)]
    times = [100, 200, 300, 100, 500]
    data = samples.saved(
        frames[0], kind, save_all=True, append_images=frames[1:], duration=times, loop=3, lossless=True
    )
    answer, clean = made(data)
    assert answer.frames == 5
    assert answer.cleaned == "lossless"
    first, second = opened(data), opened(clean)
    assert getattr(second, "n_frames", 1) == 5
    assert second.info.get("loop") == first.info.get("loop")
    for number in range(5):
        first.seek(number)
        second.seek(number)
        first.load()
        second.load()
        assert same(first, second), number
        assert first.info.get("duration") == second.info.get("duration")


def test_webp_without_loss_stays_so() -> None:
    data = samples.saved(samples.picture(), "WEBP", lossless=True)
    answer, clean = made(data)
    assert answer.cleaned == "lossless"
    assert same(opened(data), opened(clean))
    assert made(samples.webp())[0].cleaned == "reencoded"


def test_a_polyglot_comes_out_as_a_picture_alone() -> None:
    _, clean = made(samples.jpeg(comment=samples.HTML) + samples.zipped({"a": b"b"}))
    assert b"<script" not in clean
    assert b"PK" not in clean[-200:]


@pytest.mark.requirement("F06")
@pytest.mark.parametrize(
    "data",
    [
        samples.png_flood(20_000, 20_000),
        samples.gif_claiming(30_000, 30_000),
        samples.gif_claiming(65_535, 65_535),
        samples.png_flood(40_000, 8),
    ],
    ids=["png 20k x 20k", "gif 30k x 30k", "gif 65k x 65k", "png 40k x 8"],
)
def test_floods_are_seen_before_they_are_decoded(data: bytes) -> None:
    assert len(data) < 200_000
    assert unreadable(data) == "pixels"


def test_too_many_frames() -> None:
    assert unreadable(samples.gif(5), ImageLimits(frames=4)) == "pixels"
    assert unreadable(samples.gif(5), ImageLimits(frame_pixels=40 * 30 * 4)) == "pixels"
    assert made(samples.gif(5), ImageLimits(frames=5, frame_pixels=40 * 30 * 5))[0].frames == 5
    moving = samples.saved(
        samples.picture(), "WEBP", save_all=True, append_images=[samples.picture().rotate(9)] * 5
    )
    assert unreadable(moving, ImageLimits(frames=1)) == "pixels"


@pytest.mark.parametrize("name", ["照片.jpg", "截图.png", "sticker.webp", "动图.gif"])
def test_half_a_picture_is_none(name: str) -> None:
    data = samples.good()[name]
    for part in (2, 3, 4):
        assert unreadable(data[: len(data) * (part - 1) // part]) == "broken"


@pytest.mark.requirement("F06")
def test_a_heic_becomes_a_jpeg_without_its_place() -> None:
    data = samples.heic()
    assert b"CanaryPhone" in data
    seen, clean = made(data)
    assert (seen.width, seen.height, seen.frames, seen.cleaned) == (64, 48, 1, "converted")
    assert b"CanaryPhone" not in clean
    image = opened(clean)
    assert image.format == "JPEG"
    assert not image.getexif()
    middle = image.convert("RGB").getpixel((32, 24))
    assert isinstance(middle, tuple)
    assert all(abs(a - b) < 24 for a, b in zip(middle, (128, 120, 128), strict=True))


@pytest.mark.parametrize("cut", [40, 200, 500, 650])
def test_half_a_heic_is_none(cut: int) -> None:
    assert unreadable(samples.heic()[:cut]) == "broken"


def test_a_heic_that_claims_to_be_large() -> None:
    before, name, after = samples.heic().partition(b"ispe\0\0\0\0")
    assert name
    assert unreadable(before + name + (16_000).to_bytes(4) * 2 + after[8:]) in ("pixels", "broken")
    assert unreadable(samples.heic(), ImageLimits(pixels=64 * 48 - 1)) == "pixels"


@pytest.mark.parametrize("data", [b"", b"GIF89a", samples.SVG, samples.exe(), samples.pdf(), samples.mp4()])
def test_what_is_no_picture(data: bytes) -> None:
    assert unreadable(data) == "broken"
