"""Where objects are kept: the address of an S3 store, and a client for everything but the hot path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import Invalid

if TYPE_CHECKING:
    from core.settings import Settings


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 store and the keys to it."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    region: str = "us-east-1"

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """An aiobotocore client set up for stores that are not Amazon's."""
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        config = AioConfig(
            signature_version="s3v4",  # else presigned parts come back without an ETag
            request_checksum_calculation="when_required",
            s3={"payload_signing_enabled": False, "addressing_style": "path"},
            connect_timeout=5,
            retries={"max_attempts": 1},
        )
        async with get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=config,
        ) as client:
            yield client


def s3_of(settings: Settings) -> S3:
    """The store that settings name. Raises `Invalid` when they name none."""
    if settings.s3_endpoint_url is None or settings.s3_access_key is None or settings.s3_secret_key is None:
        raise Invalid(
            "BANKHUB_S3_ENDPOINT_URL, …_ACCESS_KEY and …_SECRET_KEY are not set; "
            "`bankhub up` brings an object store of its own"
        )
    return S3(
        settings.s3_endpoint_url.rstrip("/"),
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
        settings.s3_bucket,
        settings.s3_region,
    )
