"""Settings: where they come from, what is refused, what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import TREE, Internal, Invalid, from_code, problem
from core.settings import Settings, load


def test_environment_over_file_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bankhub.toml"
    file.write_text('gateway_port = 9000\nhub_port = 9001\nroles = ["im"]\n')
    monkeypatch.setenv("BANKHUB_CONFIG_FILE", str(file))
    monkeypatch.setenv("BANKHUB_HUB_PORT", "9002")
    monkeypatch.setenv("BANKHUB_GATEWAY_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("BANKHUB_SERVICE_IM_URL", "http://im:8090/")
    settings = load()
    assert (settings.gateway_port, settings.hub_port, settings.roles) == (9000, 9002, ("im",))
    assert settings.gateway_origins == ("https://a.example", "https://b.example")
    assert settings.service_urls == {"im": "http://im:8090"}
    assert settings.access_token_s == 600


def test_a_misspelt_setting_is_refused_and_others_variables_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANKHUB_PORT_8080_TCP_ADDR", "10.0.0.1")
    load()
    monkeypatch.setenv("BANKHUB_GATEWAY_PROT", "1")
    with pytest.raises(Invalid, match="BANKHUB_GATEWAY_PORT"):
        load()


@pytest.mark.parametrize("bad", [{"access_token_s": 601}, {"service_token_s": 61}, {"gateway_body_bytes": 1}])
def test_limits_have_limits(bad: dict[str, int]) -> None:
    with pytest.raises(Invalid, match=f"BANKHUB_{next(iter(bad)).upper()}: Input should be"):
        load({}, **bad)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="there is no file"):
        load({"BANKHUB_CONFIG_FILE": str(tmp_path / "mistyped.toml")})


def test_secrets_are_masked() -> None:
    settings = load(
        {}, database_url="postgresql://u:canary@h/d", cluster_secret="canary", s3_secret_key="canary"
    )
    shown = settings.masked()
    assert set(shown) == set(Settings.model_fields)
    assert "canary" not in str(shown)
    assert "canary" not in repr(settings)


def test_the_tree_of_errors() -> None:
    assert len({error.code for error in TREE}) == len(TREE)
    for kind in TREE:
        again = from_code(kind.code, detail={"a": 1}, retry_ms=5)
        assert type(again) is kind
        body = problem(again, trace_id="t")
        assert body["status"] == kind.http_status
        assert body["detail"]
        assert body["retry_ms"] == 5
    assert type(from_code("from the future")) is Internal


@pytest.mark.requirement("D05")
def test_secrets_come_from_files_that_nobody_else_reads(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("postgresql://u:canary@h/d\n")
    file.chmod(0o440)
    settings = load({"BANKHUB_DATABASE_URL_FILE": str(file)}, var_dir=tmp_path)
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://u:canary@h/d"
    with pytest.raises(Invalid, match="which one"):
        load({"BANKHUB_DATABASE_URL_FILE": str(file), "BANKHUB_DATABASE_URL": "x"})
    with pytest.raises(Invalid, match="cannot be read"):
        load({"BANKHUB_CLUSTER_SECRET_FILE": str(tmp_path / "none")})
    file.chmod(0o644)
    with pytest.raises(Invalid, match="open to others"):
        load({"BANKHUB_CLUSTER_SECRET_FILE": str(file)})
    with pytest.raises(Invalid, match="BANKHUB_CLUSTER_SECRET"):
        load({"BANKHUB_CLUSTER_SECERT_FILE": str(file)})
