"""Files as staff send them, and as attackers do, each made here from nothing: bytes by name.

Where a library would make them too well (what must be wrong, or is a few bytes anyway), they are made by hand.
"""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import wave
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, PngImagePlugin

HTML = b"<html><body><script>alert(document.domain)</script></body></html>"


# --- images -------------------------------------------------------------------------------------------------------


def picture(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Something with edges in every corner, so that turning it is seen."""
    image = Image.new("RGB", (width, height), (200, 30, 30))
    image.paste((30, 200, 30), (0, 0, width // 2, height // 2))
    image.paste((30, 30, 200), (width // 2, height // 2, width, height))
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def jpeg(**how: Any) -> bytes:
    return saved(picture(), "JPEG", **how)


def png(**how: Any) -> bytes:
    return saved(picture(), "PNG", **how)


def webp(**how: Any) -> bytes:
    return saved(picture(), "WEBP", **how)


def gif(frames: int = 1, **how: Any) -> bytes:
    images = [picture(40 + 0 * n, 30).rotate(15 * n) for n in range(frames)]
    return saved(images[0], "GIF", save_all=frames > 1, append_images=images[1:], **how)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_flood(width: int, height: int) -> bytes:
    """A picture that is all of one colour: some kilobytes that unpack to ``width x height`` pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width // 8 + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND", b""))
    )


def png_texts() -> bytes:
    """A PNG with words in it that nobody meant to send."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "CANARY-AUTHOR")
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>CANARY-XMP</x:xmpmeta>")
    return png(pnginfo=info)


def gif_claiming(width: int, height: int) -> bytes:
    """A GIF of one pixel's data that says how large it is."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00" + b"\x3b"


_HEIC = (  # a picture of 64 by 48, packed; libheif has made it, with a make and a place in its EXIF
    "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfpK4MYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{gB_LIZ&(Pz(r|wBaI)"
    "fY>54GcOIy1Ida4IjLY}Ks6a<$%YI_f{Y*~t`(VJ<$ML1CAkbxl?;C~3yKPW^xe#Y<a{7q2Gr}!$P5yi09GXTf#J{JA3qov_?Z)c"
    "IwTwzc^Loy2Pt3%sbB^nxm`>Si9ks$Cq_mznFR`stkYgSS+;WrM}~m{P>2~sFeoMgm9x1p9xOi43A98wIX|Z;FFB_ID9X#g)&LX|"
    "$t*5Ng?iTkiZzmR5(}VgkmC)YG&m6c|Ns918W;ivnH8BJL1qpP4j?6wS&$2h3q}S;)<z~~))pXJDzhjx4Jyu;oKl<&4t$V_pL0_Z"
    "L9yhj!MI+s;eCK--^9)DZ>CD$i(yw)o&ELaXR!}Q8vRoz#4z|29z1Zv(XBgc-H9nl&Q+&6PaSwFbma2tQnr&9&mEh5`IzI3pFo4y"
    "Ai?kJ%b*41aWF73@`Ihq1H@__sthbpuNZ;c;+&Y5SX3F1k)H<)0TxK~F);Z-;+mBK9JUM@KoTtO3KD05i#I?$qy#ll7b%cHbRm@1"
    "Ko$o8&>Dga"
)


def digest(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


def heic() -> bytes:
    return zlib.decompress(base64.b85decode(_HEIC))


# --- documents ----------------------------------------------------------------------------------------------------


def pdf(
    pages: int = 1, *, width: float = 595, height: float = 842, extra: bytes = b"", words: str = "INVOICE"
) -> bytes:
    """The smallest PDF that every reader opens."""
    content = f"BT /F1 36 Tf 60 {min(height, 842) - 100} Td ({words}) Tj ET".encode()
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n in range(pages):
        page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents {5 + 2 * n} 0 R"
        objects.append(page.encode() + b" /Resources << /Font << /F1 3 0 R >> >> >>")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + extra)
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)


def pdf_encrypted() -> bytes:
    """A PDF whose trailer asks for a password that nobody has."""
    return pdf().replace(
        b"/Root 1 0 R >>",
        b"/Root 1 0 R /ID [<00><00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <"
        + b"11" * 32
        + b"> /U <"
        + b"22" * 32
        + b"> >> >>",
    )


def pdf_with(*objects: bytes, catalog: bytes = b"", packed: bool = False) -> bytes:
    """A PDF of one page whose catalogue has `catalog` and that holds `objects` (numbers from 10), which may stand
    packed in an object stream; its table of places is missing, as in many that readers mend."""
    rest = b"".join(b"%d 0 obj\n%s\nendobj\n" % (n, one) for n, one in enumerate(objects, 10) if not packed)
    if packed:
        places, inside = [], b""
        for n, one in enumerate(objects, 10):
            places.append(b"%d %d" % (n, len(inside)))
            inside += one + b" "
        head = b" ".join(places) + b"\n"
        data = zlib.compress(head + inside)
        rest = b"9 0 obj\n<< /Type /ObjStm /N %d /First %d /Filter /FlateDecode /Length %d >>\nstream\n" % (
            len(objects), len(head), len(data),
        ) + data + b"\nendstream\nendobj\n"  # fmt: skip
    whole = pdf().replace(b"/Type /Catalog", b"/Type /Catalog " + catalog)
    at = whole.rfind(b"xref\n0 ")
    return whole[:at] + rest + whole[at:].replace(b"startxref\n", b"startxref\n9")


def pdf_with_file(name: bytes) -> bytes:
    """A PDF that a file is attached to."""
    return pdf_with(
        b"<< /Type /Filespec /F (%s) /EF << /F 11 0 R >> >>" % name,
        b"<< /Type /EmbeddedFile /Length 4 >>\nstream\nabcd\nendstream",
        catalog=b"/Names << /EmbeddedFiles << /Names [(%s) 10 0 R] >> >>" % name,
    )


def zipped(entries: Mapping[str, bytes] | Sequence[tuple[str, bytes]], *, packed: bool = True) -> bytes:
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in entries.items() if isinstance(entries, Mapping) else entries:
            archive.writestr(name, data)
    return out.getvalue()


_TYPES = b"<?xml version='1.0'?><Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'/>"
_MAIN = {"docx": "word/document.xml", "xlsx": "xl/workbook.xml", "pptx": "ppt/presentation.xml"}


def ooxml(kind: str, extra: Mapping[str, bytes] | None = None, types: bytes = _TYPES) -> bytes:
    return zipped(
        {"[Content_Types].xml": types, "_rels/.rels": b"<r/>", _MAIN[kind]: b"<w/>", **(extra or {})}
    )


def ofd() -> bytes:
    return zipped({"OFD.xml": b"<ofd:OFD/>", "Doc_0/Document.xml": b"<ofd:Document/>"})


def ole(streams: Mapping[str, bytes]) -> bytes:
    """A compound file with these streams in its root; storages end with a slash and are empty.

    Version 3, sectors of 512 bytes, no small streams (each stream is filled up to 4,096 bytes), one FAT sector.
    """
    sector, free, end = 512, 0xFFFFFFFF, 0xFFFFFFFE
    names = list(streams)
    directories = (len(names) + 1 + 3) // 4
    fat = [0xFFFFFFFD] + [1 + n + 1 for n in range(directories - 1)] + [end]
    body, entries = bytearray(), [_entry("Root Entry", 5, child=1 if names else free, start=end)]
    for index, name in enumerate(names):
        following = index + 2 if index + 1 < len(names) else free
        if name.endswith("/"):
            entries.append(_entry(name[:-1], 1, right=following, start=0))
            continue
        data = streams[name].ljust(4096, b"\0")
        data += bytes(-len(data) % sector)
        first, count = len(fat), len(data) // sector
        fat += [first + n + 1 for n in range(count - 1)] + [end]
        entries.append(_entry(name, 2, right=following, start=first, size=len(data)))
        body += data
    assert len(fat) <= 128
    entries += [bytes(128)] * (directories * 4 - len(entries))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH6xIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, end, 0, end, 0)
    header += struct.pack("<109I", 0, *[free] * 108)
    table = struct.pack("<128I", *fat, *[free] * (128 - len(fat)))
    return header + table + b"".join(entries) + bytes(body)


def _entry(
    name: str, kind: int, *, right: int = 0xFFFFFFFF, child: int = 0xFFFFFFFF, start: int, size: int = 0
) -> bytes:
    encoded = name.encode("utf-16-le") + b"\0\0"
    return struct.pack(
        "<64sHBBIII16sI8s8sIQ",
        *(encoded, len(encoded), kind, 1, 0xFFFFFFFF, right, child, bytes(16), 0, bytes(8), bytes(8)),
        *(start, size),
    )


# --- sound and video ----------------------------------------------------------------------------------------------


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


def mp4(brand: bytes = b"isom", *, ms: int = 2500) -> bytes:
    header = struct.pack(">IIIII", 0, 0, 0, 1000, ms) + struct.pack(">IH10x", 0x10000, 0x100) + bytes(64)
    return (
        box(b"ftyp", brand + bytes(4) + brand) + box(b"moov", box(b"mvhd", header)) + box(b"mdat", bytes(64))
    )


def amr(frames: int = 100) -> bytes:
    """Narrow band at 12.2 kbit/s: 32 bytes for each 20 ms."""
    return b"#!AMR\n" + (b"\x3c" + bytes(31)) * frames


def amr_wide(frames: int = 100) -> bytes:
    return b"#!AMR-WB\n" + (b"\x04" + bytes(17)) * frames


def mp3(frames: int = 100) -> bytes:
    """MPEG 1 layer III, 128 kbit/s, 44,100 Hz: 417 bytes a frame of 1,152 samples."""
    return (b"\xff\xfb\x90\x64" + bytes(413)) * frames


def wav(ms: int = 1500) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16 * ms))
    return out.getvalue()


def opus(ms: int = 2000) -> bytes:
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 312, 48000, 0, 0)
    tags = b"OpusTags" + struct.pack("<I", 4) + b"test" + struct.pack("<I", 0)
    return _page(2, 0, 0, head) + _page(0, 0, 1, tags) + _page(4, 48 * ms + 312, 2, bytes(200))


def vorbis(ms: int = 2000) -> bytes:
    head = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, 44100, 0, 128000, 0, 0xB8, 1)
    tags = b"\x03vorbis" + struct.pack("<I", 4) + b"test" + struct.pack("<IB", 0, 1)
    return _page(2, 0, 0, head) + _page(0, 0, 1, tags) + _page(4, 44100 * ms // 1000, 2, bytes(200))


def _page(flags: int, granule: int, number: int, data: bytes) -> bytes:
    lacing = [255] * (len(data) // 255) + [len(data) % 255]
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 1, number, 0, len(lacing)) + bytes(lacing)
    page = bytearray(head + data)
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1
        crc &= 0xFFFFFFFF
    page[22:26] = struct.pack("<I", crc)
    return bytes(page)


def webm() -> bytes:
    return bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f38108428284") + b"webm" + bytes(80)


# --- archives -----------------------------------------------------------------------------------------------------


def seven() -> bytes:
    return b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(64)


def rar(version: int = 5) -> bytes:
    return (b"Rar!\x1a\x07\x01\x00" if version == 5 else b"Rar!\x1a\x07\x00") + bytes(64)


# --- what nobody should send --------------------------------------------------------------------------------------


def exe() -> bytes:
    stub = b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64)
    return stub + b"PE\0\0" + struct.pack("<HH", 0x8664, 1) + bytes(256)


def elf() -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(57)


def jar() -> bytes:
    return zipped(
        {"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\n", "Evil.class": b"\xca\xfe\xba\xbe\0\0\0\x34"}
    )


SVG = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""The harmless file that every scanner is meant to find, in two halves, so that none finds it here."""


def good() -> dict[str, bytes]:
    """What a firm's staff send, by name."""
    return {
        "照片.jpg": jpeg(),
        "photo.jpeg": jpeg(quality=60),
        "截图.png": png(),
        "sticker.webp": webp(),
        "动图.gif": gif(3),
        "IMG_0001.heic": heic(),
        "合同.pdf": pdf(3),
        "合同.docx": ooxml("docx"),
        "报表.xlsx": ooxml("xlsx"),
        "汇报.pptx": ooxml("pptx"),
        "旧合同.doc": ole({"WordDocument": b"\xec\xa5\xc1\0"}),
        "旧报表.xls": ole({"Workbook": b"\x09\x08\x10\0\0\x06\x05\0"}),
        "旧汇报.ppt": ole({"PowerPoint Document": b"\x0f\0\xe8\x03", "Current User": b""}),
        "文字.wps": ole({"WordDocument": b"\xec\xa5\xc1\0"}),
        "表格.et": ole({"Workbook": b"\x09\x08\x10\0\0\x06\x05\0"}),
        "演示.dps": ole({"PowerPoint Document": b"\x0f\0\xe8\x03"}),
        "电子发票.ofd": ofd(),
        "电子发票.xml": "<?xml version='1.0' encoding='UTF-8'?><EInvoice><a>壹佰元整</a></EInvoice>".encode(),
        "note.txt": "会议纪要：下周一上午九点。\n".encode(),
        "旧备注.txt": "会议纪要：下周一上午九点。\r\n".encode("gb18030"),
        "工资.csv": "姓名,金额\n张伟,100.00\n".encode("utf-8-sig"),
        "旧工资.csv": "姓名,金额\r\n张伟,100.00\r\n".encode("gb18030"),
        "README.md": "# 说明\n\n1 < 2, a & b, `code`\n".encode(),
        "资料.zip": zipped({"一.txt": b"1", "二/三.pdf": pdf()}),
        "资料.7z": seven(),
        "资料.rar": rar(),
        "旧资料.rar": rar(4),
        "语音.amr": amr(),
        "语音w.amr": amr_wide(),
        "录音.mp3": mp3(),
        "标签.mp3": b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + mp3(),
        "录音.m4a": mp4(b"M4A "),
        "录音.ogg": vorbis(),
        "语音.opus": opus(),
        "录音.wav": wav(),
        "视频.mp4": mp4(),
        "视频.mov": mp4(b"qt  "),
        "视频.webm": webm(),
        "邮件.eml": "From: a@example.cn\r\nSubject: 对账\r\nMIME-Version: 1.0\r\n\r\n您好\r\n".encode(),
    }


def hostile() -> dict[str, tuple[str, bytes]]:
    """What is refused: the reason by name."""
    archive = zipped({"a.class": b"\xca\xfe\xba\xbe"})
    comment = jpeg(comment=HTML)
    macro = ooxml("docx", {"word/vbaProject.bin": b"x"})
    return {
        "empty.pdf": ("empty", b""),
        "setup.exe": ("executable", exe()),
        "setup.pdf": ("executable", exe()),
        "photo.jpg.exe": ("executable", exe()),
        "照片\u202egpj.exe": ("executable", exe()),
        "发票.pdf                 .exe": ("executable", exe()),
        "发票.pdf．exe": ("executable", exe()),
        "发票.ｅｘｅ": ("executable", exe()),
        "tool.txt": ("executable", elf()),
        "run.txt": ("script", b"#!/bin/sh\nrm -rf /\n"),
        "run.sh": ("script", b"echo 1\n"),
        "macro.vbs": ("script", b"MsgBox 1"),
        "page.html": ("active", HTML),
        "page.txt": ("active", b"  \n<!-- x --><!DOCTYPE html>" + HTML),
        "page.md": ("active", b"# hello\n\n<script>alert(1)</script>\n"),
        "page.jpg": ("active", HTML),
        "page.xml": (
            "active",
            b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><script/></html>",
        ),
        "xsl.xml": (
            "active",
            b"<?xml version='1.0'?><?xml-stylesheet href='x.xsl' type='text/xsl'?><EInvoice/>",
        ),
        "entities.xml": ("active", b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"),
        "logo.svg": ("active", SVG),
        "logo.png": ("active", SVG),
        "logo.xml": ("active", SVG),
        "utf16.txt": ("active", b"\xff\xfe" + HTML.decode().encode("utf-16-le")),
        "mail.eml": ("mismatch", jpeg()),
        "gifar.gif": ("polyglot", gif() + archive),
        "pngzip.png": ("polyglot", png() + archive),
        "jpegzip.jpg": ("polyglot", jpeg() + archive),
        "pdfzip.pdf": ("polyglot", pdf() + archive),
        "jpegrar.jpg": ("polyglot", jpeg() + rar()),
        "pngpdf.png": ("polyglot", png() + pdf()),
        "pnghtml.png": ("polyglot", png() + HTML),
        "comment.jpg": ("polyglot", comment),
        "comment.gif": ("polyglot", gif(comment=HTML)),
        "pdfhtml.pdf": ("polyglot", pdf(extra=b"%" + HTML + b"\n")),
        "htmlpdf.pdf": ("active", HTML + pdf()),
        "exezip.zip": ("executable", exe() + archive),
        "jpegzip.zip": ("polyglot", jpeg() + archive),
        "wavhtml.wav": ("polyglot", wav() + HTML),
        "mp4zip.mp4": ("polyglot", mp4() + archive),
        "photo.png": ("mismatch", jpeg()),
        "photo.jpg": ("mismatch", png()),
        "contract.pdf": ("mismatch", jpeg()),
        "contract.docx": ("mismatch", ooxml("xlsx")),
        "plain.docx": ("mismatch", zipped({"a.txt": b"1"})),
        "ofd.ofd": ("mismatch", zipped({"a.txt": b"1"})),
        "old.doc": ("mismatch", ole({"Workbook": b"\x09\x08"})),
        "random.pdf": ("unknown", bytes(range(256)) * 4),
        "random.txt": ("unknown", bytes(range(256)) * 4),
        "noextension": ("extension", png()),
        "data.xyz": ("extension", png()),
        "app.jar": ("executable", jar()),
        "app.apk": ("executable", jar()),
        "app.zip": ("executable", jar()),
        "macro.docx": ("macros", macro),
        "macro.docm": ("macros", macro),
        "macro.doc": ("macros", ole({"WordDocument": b"", "Macros/": b"", "VBA/": b""})),
        "macro.xls": ("macros", ole({"Workbook": b"\x09\x08", "_VBA_PROJECT_CUR/": b""})),
        "setup.msi.doc": ("mismatch", ole({"\u4840\u3f3f\u4577": b"", "Binary.setup": b""})),
        "dde.csv": ("script", b"a,b\n=cmd|'/C calc'!A0,1\n"),
        "link.txt": ("executable", b"L\0\0\0\x01\x14\x02\0" + bytes(60)),
    }
