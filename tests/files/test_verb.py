"""`bankhub files`: what it says of a store and its tables, and when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from core.db import Database, DatabaseError
from core.errors import Internal
from core.s3 import S3
from files.retention import store
from files.storage.bucket import Bucket
from house.files import compare
from tests.world import settings_for


async def test_it_says_what_is_there_and_what_nothing_knows(
    database: str, tmp_path: Path, bucket: Bucket, object_store: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(
        database, tmp_path, s3_endpoint_url=object_store.endpoint, s3_bucket=object_store.bucket,
        s3_access_key=SecretStr(object_store.access_key), s3_secret_key=SecretStr(object_store.secret_key),
        files_orphan_s=0.001, files_upload_life_s=0.0005,
    )  # fmt: skip
    await bucket.put("content/0000000000000000001", b"nobody's", 8)
    assert await compare(settings, mend=False) == 0
    said = capsys.readouterr().out
    assert "1 objects, 8 bytes" in said
    assert "1 that nothing knows, young ones too; 0 taken away" in said
    assert await compare(settings, mend=True) == 0
    assert "1 taken away" in capsys.readouterr().out
    assert [one.key async for one in bucket.keys("content/")] == []


async def test_what_the_database_refuses_is_said_with_what_was_done(
    database: str, tmp_path: Path, bucket: Bucket, object_store: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(
        database, tmp_path, s3_endpoint_url=object_store.endpoint, s3_bucket=object_store.bucket,
        s3_access_key=SecretStr(object_store.access_key), s3_secret_key=SecretStr(object_store.secret_key),
    )  # fmt: skip
    real = store.expected

    async def too_large(db: Database, after: int, limit: int) -> list[int]:
        return await real(db, after + (1 << 63), limit)

    monkeypatch.setattr(store, "expected", too_large)
    with pytest.raises(Internal, match=r"comparison of store and tables broke off.*int64") as refused:
        await compare(settings, mend=False)
    assert isinstance(refused.value.__cause__, DatabaseError)
