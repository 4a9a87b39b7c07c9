"""Tells an uploader's other screens how far an upload is: signals over the hub, never stored, twice a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hub import api as hub

if TYPE_CHECKING:
    from core.access import Principal
    from core.runtime import Runtime

SIGNAL: Final = "upload"
_EVERY_S: Final = 0.5
_FROM_BYTES: Final = 1 << 20  # smaller ones are there before anybody looks


class Progress:
    """One upload's."""

    def __init__(
        self, runtime: Runtime, who: Principal, size_bytes: int, *, name: str, upload_id: int | None = None,
        received_bytes: int = 0,
    ) -> None:  # fmt: skip
        self._runtime, self._who, self._size_bytes = runtime, who, size_bytes
        self._name, self._upload_id = name, upload_id
        self.received_bytes = received_bytes
        self._told_s, self._shown = runtime.clock.monotonic_s(), False

    def add(self, size_bytes: int) -> None:
        """So much more has come."""
        self.received_bytes += size_bytes
        now_s = self._runtime.clock.monotonic_s()
        due = self._size_bytes >= _FROM_BYTES and now_s - self._told_s >= _EVERY_S
        if due or (self._shown and self.received_bytes >= self._size_bytes):  # the end, to who saw it begin
            self._told_s, self._shown = now_s, True
            self._tell()

    def _tell(self) -> None:
        value = {"name": self._name, "size": self._size_bytes, "received": self.received_bytes}
        if self._upload_id is not None:
            value["upload_id"] = str(self._upload_id)
        hub.signal_person(self._runtime, self._who.enterprise_id, self._who.person_id, SIGNAL, value)
