"""Short messages: the texts, the platform over HTTP, the outbox of laptops, and the sending in the background."""

from __future__ import annotations

from core.clock import Clock
from core.rng import Rng
from core.settings import Settings
from gateway.ports import SmsSender
from gateway.sms.http import HttpSms
from gateway.sms.outbox import FILE, FileOutbox


def sender(settings: Settings, clock: Clock, rng: Rng) -> SmsSender:
    """The platform that settings name, else the outbox under ``var/`` that `bankhub up` prints."""
    if settings.sms_url is not None:
        return HttpSms(settings, clock, rng)
    return FileOutbox(settings.var_dir / FILE, clock)
