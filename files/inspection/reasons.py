"""Why a file is refused: codes for programs, and what people are told."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Stable codes; `TEXTS` says them to people."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    EXTENSION = "extension"
    EXECUTABLE = "executable"
    SCRIPT = "script"
    ACTIVE = "active"
    POLYGLOT = "polyglot"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"
    ENCODING = "encoding"
    DECLARED = "declared"
    MACROS = "macros"
    SCRIPTED = "scripted"
    TEMPLATE = "template"
    ENCRYPTED = "encrypted"
    ARCHIVE = "archive"
    BOMB = "bomb"
    PIXELS = "pixels"
    UNREADABLE = "unreadable"


TEXTS: Final[dict[Reason, str]] = {
    Reason.EMPTY: "文件是空的",
    Reason.TOO_LARGE: "文件超过了大小上限",
    Reason.EXTENSION: "不支持这种类型的文件",
    Reason.EXECUTABLE: "不能发送可执行程序",
    Reason.SCRIPT: "不能发送脚本或可执行命令",
    Reason.ACTIVE: "不能发送网页、SVG 等含有活动内容的文件",
    Reason.POLYGLOT: "文件中混入了另一种文件，已拒收",
    Reason.MISMATCH: "文件内容与扩展名不一致",
    Reason.UNKNOWN: "无法识别文件内容",
    Reason.ENCODING: "文本编码不支持，请另存为 UTF-8 后再发送",
    Reason.DECLARED: "文件内容与声明的类型不一致",
    Reason.MACROS: "不能发送含有宏的文档，请另存为不含宏的格式",
    Reason.SCRIPTED: "PDF 中含有脚本、自动动作或内嵌文件，请打印或另存为普通 PDF 后再发送",
    Reason.TEMPLATE: "文档引用了外部模板或对象，已拒收",
    Reason.ENCRYPTED: "文件已加密，无法检查其内容",
    Reason.ARCHIVE: "压缩包内有不安全的内容",
    Reason.BOMB: "文件展开后过大，已拒收",
    Reason.PIXELS: "图片的像素或帧数超过了上限，请缩小后再发送",
    Reason.UNREADABLE: "文件已损坏或无法读取",
}
