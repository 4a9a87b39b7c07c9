"""Signed addresses: those of the client library, and what the store makes of changed ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from core.clock import SystemClock
from core.s3 import S3
from files.storage.bucket import Bucket
from files.storage.signing import signed_url

NOW = datetime(2026, 11, 26, 8, 30, tzinfo=UTC)
HERE = S3("http://store.example:8333", "AKIAEXAMPLE", "a secret / with+signs", "bank-hub", "cn-north-1")


@given(
    key=st.text("abcXYZ019-_.~/ +%中文", min_size=1, max_size=40).filter(
        lambda k: "//" not in k and k[0] != "/"
    ),
    query=st.dictionaries(st.sampled_from(["partNumber", "uploadId"]), st.text("aZ09=/+ -_", max_size=20)),
    seconds=st.integers(1, 604_800),
)
def test_it_is_what_the_client_library_signs(key: str, query: dict[str, str], seconds: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda *a, **k: NOW.replace(tzinfo=None))
        request = AWSRequest("PUT", f"{HERE.endpoint}/{HERE.bucket}/{key}", params=query)
        request.url = signed_url(HERE, "PUT", key, NOW, expires_s=1).partition("?")[0]
        auth = S3SigV4QueryAuth(
            Credentials(HERE.access_key, HERE.secret_key), "s3", HERE.region, expires=seconds
        )
        auth.add_auth(request)
    ours = signed_url(HERE, "PUT", key, NOW, expires_s=seconds, query=query)
    assert _signature(ours) == _signature(str(request.url))


def _signature(url: str) -> str:
    return url.rpartition("X-Amz-Signature=")[2]


@pytest.fixture
async def client() -> Any:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.requirement("F05")
async def test_the_store_believes_no_other_address(
    object_store: S3, bucket: Bucket, client: aiohttp.ClientSession
) -> None:
    await bucket.put("content/here", b"what is there", 13)
    now = SystemClock().now()
    good = signed_url(object_store, "GET", "content/here", now, expires_s=60)
    last = good[-1]
    for url in (
        good.partition("?")[0],  # without any signature
        good[:-1] + ("0" if last != "0" else "1"),
        good.replace("content/here", "content/there"),
        good.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
        signed_url(object_store, "GET", "content/here", now - timedelta(minutes=5), expires_s=60),  # over
        signed_url(S3(object_store.endpoint, object_store.access_key, "another secret", object_store.bucket),
                   "GET", "content/here", now, expires_s=60),
    ):  # fmt: skip
        async with client.get(_raw(url)) as answer:
            assert answer.status == 403, url
    async with client.delete(_raw(good)) as answer:
        assert answer.status == 403
    async with client.get(_raw(good)) as answer:
        assert await answer.read() == b"what is there"


@pytest.mark.requirement("F05")
async def test_a_part_has_the_length_that_was_signed(bucket: Bucket, client: aiohttp.ClientSession) -> None:
    upload = await bucket.begin("content/direct")
    url = bucket.part_url("content/direct", upload, 1, 10, 60)
    async with client.put(_raw(url), data=b"x" * 11) as answer:
        assert answer.status == 403
    async with client.put(_raw(url.replace("partNumber=1", "partNumber=2")), data=b"x" * 10) as answer:
        assert answer.status == 403
    async with client.put(_raw(url), data=b"x" * 10) as answer:
        assert answer.status == 200
    assert [(part.number, part.size_bytes) for part in await bucket.parts("content/direct", upload)] == [
        (1, 10)
    ]
    await bucket.abort("content/direct", upload)


def _raw(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)
