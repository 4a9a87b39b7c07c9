"""Devices that have a key of their own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from core.actions import Command, Event, Id, Value
from gateway.api.codes import Code, CodeSent
from gateway.api.identity import Name
from gateway.api.sessions import AccessToken

Thumbprint = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{43}$")]


class BoundDevice(Value):
    """A device whose key is trusted. Times in ms since the epoch."""

    jkt: Thumbprint  # of its key (RFC 7638)
    algorithm: Literal["ES256", "SM2"]
    device: str
    name: str
    platform: str
    bound_ms: int
    used_ms: int  # of the last login
    new: bool  # bound so lately that what moves money asks for more
    current: bool


class Devices(Value):
    """One's trusted devices, the oldest first."""

    devices: list[BoundDevice]


# --- commands -------------------------------------------------------------------------------------------------------


class ListDevices(Command[Devices], action="gateway.devices.list"):
    """One's own devices whose keys are trusted."""


class SendBindingCode(Command[CodeSent], action="gateway.devices.send_code"):
    """Ask for the code that binds the device one is logged in on. It goes to one's own phone and names the device."""


class BindDevice(Command[AccessToken], action="gateway.devices.bind"):
    """Trust the key that this session is bound to. The session is then as good as one with two factors."""

    name: Name
    code: Code


class RenameDevice(Command[None], action="gateway.devices.rename"):
    """Call a device something else."""

    jkt: Thumbprint
    name: Name


class RevokeDevice(Command[None], action="gateway.devices.revoke"):
    """Trust a key no longer: every session with it ends at once."""

    jkt: Thumbprint


# --- events ---------------------------------------------------------------------------------------------------------


class DeviceBound(Event, event="gateway.device_bound"):
    """A person trusts a new device: the others are to be told. `enterprise_id`: where it happened, 0: nowhere."""

    person_id: Id
    jkt: Thumbprint
    name: Annotated[str, Field(max_length=64)]

    def order_key(self) -> str:
        return f"gateway.device.{self.person_id}"


class DeviceRevoked(Event, event="gateway.device_revoked"):
    """A person trusts a device no longer."""

    person_id: Id
    jkt: Thumbprint

    def order_key(self) -> str:
        return f"gateway.device.{self.person_id}"
