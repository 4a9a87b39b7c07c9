"""Engines for a verb that needs some for a moment: those of the `up` that runs, or started for the verb alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from core.embedded import EmbeddedEngines
from core.settings import Settings
from house.supervisor import wanted_engines


@contextmanager
def engines_of(settings: Settings, names: Collection[str]) -> Iterator[Settings]:
    """Settings that name running engines. Raises `EngineFailed`."""
    missing = wanted_engines(settings) & set(names)
    engines = EmbeddedEngines(settings.var_dir, missing, bucket=settings.s3_bucket)
    ours = bool(missing) and engines.holder() is None
    if ours:
        engines.start_blocking()
    try:
        found: dict[str, object] = {}
        if "postgres" in missing:
            found["database_url"] = SecretStr(engines.database_url)
        if "valkey" in missing:
            found["redis_url"] = SecretStr(engines.redis_url)
        if "s3" in missing:
            found["s3_endpoint_url"] = engines.s3.endpoint
            found["s3_access_key"] = SecretStr(engines.s3.access_key)
            found["s3_secret_key"] = SecretStr(engines.s3.secret_key)
        yield settings.model_copy(update=found)
    finally:
        if ours:
            engines.stop_blocking()
