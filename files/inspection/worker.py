"""One process of the workshop: gives up what it does not need, then does one task after the other. Not to be imported
by the service.

It is started with one socket as descriptor 0. A task comes as one message of MessagePack with the file as an open
descriptor beside it, and a second one if something is to be written; the answer goes back with its length before it.
Nothing else enters: no path, no environment, no name of anybody.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from files.inspection import archives, confine
from files.inspection.tasks import MESSAGE_BYTES, Answer, Hello, Reply, Setup, Task
from files.inspection.values import Unreadable

_PROGRAM = Path(__file__).resolve().parent.parent  # files/


def main() -> None:
    channel = socket.socket(fileno=0)
    body, _ = _received(channel)
    setup = msgspec.msgpack.decode(body, type=Setup)
    confine.die_with(setup.parent)
    confine.limit(
        memory_bytes=setup.memory_bytes,
        cpu_s=setup.cpu_s * setup.tasks,
        file_bytes=setup.file_bytes,
        open_files=32,
    )
    _warm()
    missing = confine.lock_down(_PROGRAM)
    _answer(Hello(missing))
    for _ in range(setup.tasks):
        body, descriptors = _received(channel)
        if not body:
            return  # the service is gone or does not need us any more
        task = msgspec.msgpack.decode(body, type=Task)
        files = [os.fdopen(one, "rb" if at == 0 else "wb") for at, one in enumerate(descriptors)]
        # Both end this process even inside a library, and also when nobody is there any more to stop it.
        signal.setitimer(signal.ITIMER_REAL, setup.wall_s)
        signal.setitimer(signal.ITIMER_PROF, setup.cpu_s)
        result = _done(task.what, files[0], files[1] if len(files) > 1 else None, setup)
        for file in files:
            try:
                file.close()
            except OSError:  # what was not yet written did not fit
                result = Unreadable("limit")
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _answer(Reply(not isinstance(result, Unreadable), msgspec.Raw(msgspec.msgpack.encode(result))))


def _done(what: str, file: BinaryIO, out: BinaryIO | None, setup: Setup) -> Answer:
    try:
        match what:
            case "image":
                from files.inspection import images

                return images.make(file, out, setup.images)
            case "pdf":
                from files.inspection import documents

                return documents.first_page(file, setup.pages)
            case "office":
                from files.inspection import documents

                return documents.office(file)
            case "archive":
                return archives.list_zip(file, setup.archives)
            case "sound":
                from files.inspection import sounds

                return sounds.length(file)
    except MemoryError:
        return Unreadable("memory")
    except RecursionError:
        return Unreadable("limit")
    raise AssertionError(what)


def _warm() -> None:
    """Load the plugins now: afterwards each would cost, and a fault of the installation should show at the start."""
    import pi_heif
    from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    assert "libde265" in pi_heif.libheif_info()["decoders"]
    assert all((GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin))
    Image.new("RGB", (1, 1)).save(io.BytesIO(), "WEBP")


def _received(channel: socket.socket) -> tuple[bytes, list[int]]:
    body, descriptors, flags, _ = socket.recv_fds(channel, MESSAGE_BYTES, 2)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        sys.exit(2)
    return body, list(descriptors)


def _answer(answer: Reply | Hello) -> None:
    """By write(), not send(), which is refused here like all of the network."""
    body = msgspec.msgpack.encode(answer)
    data = memoryview(struct.pack(">I", len(body)) + body)
    while data:
        data = data[os.write(0, data) :]


if __name__ == "__main__":
    main()
