"""What a process of the workshop gives up before it looks at anybody's file. Linux only; no privilege is needed.

Decoders are large C libraries fed by strangers. So the process that runs them may use only so much memory, time and
open files (`setrlimit`), may not talk, start or trace anything (seccomp), and may read nothing but its own program and
the system's fonts (Landlock): a file to look at comes as an open descriptor, never as a path.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_FILTER = 1, 4, 38, 22, 2
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
_CLONE_THREAD: Final = 0x00010000

# Numbers of what is refused with EPERM, by architecture: <asm/unistd_64.h> and <asm-generic/unistd.h>.
# Networking, starting programs, other processes, name spaces, keys, kernel interfaces that grow.
_REFUSED: Final = {
    "x86_64": (
        *(
            41,
            42,
            43,
            44,
            46,
            49,
            50,
            53,
            288,
            299,
            307,
        ),  # socket connect accept sendto sendmsg bind listen …
        *(57, 58, 59, 322),  # fork vfork execve execveat
        *(62, 101, 310, 311, 424, 434, 438),  # kill ptrace process_vm_* pidfd_*
        *(155, 161, 165, 166, 272, 308, 428, 429, 430, 431, 432, 442),  # pivot_root chroot mount … setns
        *(175, 246, 248, 249, 250, 298, 313, 320, 321, 323, 425, 426, 427),  # modules keys perf bpf io_uring
        *(160, 302),  # setrlimit prlimit64: root could raise its limits again
    ),
    "aarch64": (
        *(198, 199, 200, 201, 202, 203, 206, 211, 242, 269),
        *(221, 281),
        *(117, 129, 270, 271, 424, 434, 438),
        *(39, 40, 41, 51, 97, 268, 428, 429, 430, 431, 432, 442),
        *(104, 105, 106, 217, 218, 219, 241, 273, 280, 282, 294, 425, 426, 427),
        *(164, 261),
    ),
}
_ARCHITECTURE: Final = {"x86_64": (0xC000003E, 56), "aarch64": (0xC00000B7, 220)}  # audit number, clone
_CLONE3: Final = 435


def die_with(parent: int) -> None:
    """Have the kernel end this process when `parent` ends, however that happens."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)


def limit(*, memory_bytes: int, cpu_s: int, file_bytes: int, open_files: int) -> None:
    """Limits of this process, which it cannot raise again. `cpu_s` is for its whole life."""
    for what, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_CORE, 0),  # a core would hold somebody's document
    ):
        resource.setrlimit(what, (value, value))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_down(program: Path) -> tuple[str, ...]:
    """Give up everything else; `program` is the folder that our own modules are read from.

    Returns what this kernel could not do, of ``landlock`` and ``seccomp``.
    """
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    readable = [
        program,
        *map(Path, prefixes),
        *map(Path, ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/fonts")),
    ]
    missing = [] if _landlock(readable) else ["landlock"]
    if not _seccomp():
        missing.append("seccomp")
    return tuple(missing)


def _landlock(readable: Iterable[Path]) -> bool:
    """Nothing may be opened for writing, and for reading only what is below `readable`. <linux/landlock.h>."""
    create, add, restrict = 444, 445, 446
    read_file, read_folder, everything = 1 << 2, 1 << 3, (1 << 13) - 1
    attributes = struct.pack("<Q", everything)
    rules = _libc.syscall(create, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    try:
        for path in readable:
            if not path.exists():
                continue
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = read_file | (read_folder if path.is_dir() else 0)
            done = _libc.syscall(add, rules, 1, struct.pack("<Qi", allowed, place), 0)
            os.close(place)
            if done:
                return False
        return bool(_libc.syscall(restrict, rules, 0) == 0)
    finally:
        os.close(rules)


def _seccomp() -> bool:
    machine = platform.machine()
    if machine not in _REFUSED:
        return False
    audit, clone = _ARCHITECTURE[machine]
    load, equal, above, test, give = 0x20, 0x15, 0x35, 0x45, 0x06
    refused = _REFUSED[machine]
    program = [
        (load, 0, 0, 4),  # the architecture: a 32-bit call has other numbers
        (equal, 1, 0, audit),
        (give, 0, 0, _EPERM),
        (load, 0, 0, 0),  # the number
        (above, 0, 1, 0x40000000),  # x32 has other numbers too
        (give, 0, 0, _EPERM),
        (equal, 0, 1, _CLONE3),
        (give, 0, 0, _ENOSYS),  # its arguments cannot be seen; libc then uses clone
        (equal, 0, 3, clone),
        (load, 0, 0, 16),  # the flags: a thread may be started, a process may not
        (test, len(refused) + 1, 0, _CLONE_THREAD),
        (give, 0, 0, _EPERM),
        *((equal, len(refused) - at, 0, number) for at, number in enumerate(refused)),
        (give, 0, 0, _ALLOW),
        (give, 0, 0, _EPERM),
    ]
    # `test` above leads to ALLOW: over the numbers, whose count is len(refused), and the line that gives EPERM before
    packed = b"".join(struct.pack("<HBBI", *line) for line in program)
    lines = ctypes.create_string_buffer(packed)
    header = struct.pack("@HP", len(program), ctypes.addressof(lines))
    return bool(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, header, 0, 0) == 0)
