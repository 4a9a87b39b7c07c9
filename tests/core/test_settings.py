"""Settings: where they come from, what is refused, what is shown."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from core.errors import TREE, Internal, Invalid, from_code, problem
from core.settings import Settings, load
from hub.service import limits_of
from hub.wire.limits import Limits


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


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BANKHUB_GATEWAY_PROT", "BANKHUB_GATEWAY_PORT is meant"),
        ("BANKHUB_HUB_HELO_S", "BANKHUB_HUB_HELLO_S is meant"),
        ("BANKHUB_HELLO_S", "BANKHUB_HUB_HELLO_S is meant"),
        ("BANKHUB_GATEWAY_REQUEST_BYTES", "BANKHUB_GATEWAY_"),
        ("BANKHUB_XYZZY", "bankhub config"),
    ],
)
def test_a_variable_that_sets_nothing_is_refused(name: str, meant: str) -> None:
    with pytest.raises(Invalid, match=f"unknown setting {name}.*{meant}"):
        load({name: "1"})


def test_what_kubernetes_sets_for_its_services_is_let_be() -> None:
    load(
        dict.fromkeys(
            (
                "BANKHUB_PORT",
                "BANKHUB_PORT_8080_TCP",
                "BANKHUB_PORT_8080_TCP_ADDR",
                "BANKHUB_SERVICE_HOST",
                "BANKHUB_SERVICE_PORT",
                "BANKHUB_SERVICE_PORT_HTTP",
                "BANKHUB_WEB_SERVICE_HOST",
                "BANKHUB_WEB_PORT_8081_TCP_PROTO",
            ),
            "10.0.0.1",
        )
    )


def test_a_line_of_the_file_that_sets_nothing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bankhub.toml"
    for text, why in (
        ("gateway_prot = 1", "gateway_port is meant"),
        ("[hub]\nport = 1", "unknown"),
        ("x", "Expected '='"),
    ):
        file.write_text(text)
        with pytest.raises(Invalid, match=why):
            load({"BANKHUB_CONFIG_FILE": str(file)})


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("GATEWAY_TRUSTED_PROXIES", '["127.0.0.9"]', "no address and no network.*commas"),
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.1/8", "10.0.0.0/8 is meant"),
        ("GATEWAY_HOSTS", "https://bank.example", "no host"),
        ("GATEWAY_ORIGINS", "bank.example", "no origin"),
        ("GATEWAY_ORIGINS", "https://bank.example/", "no origin"),
        ("GATEWAY_PORT", "80800", "65535"),
        ("LOG_LEVEL", "loud", "one of debug"),
        ("RATE_ACTIONS_SCALE", "0", "greater than 0"),
    ],
)
def test_a_bad_value_is_one_clear_line(
    name: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BANKHUB_{name}", value)
    with pytest.raises(Invalid, match=f"BANKHUB_{name}: .*{why}") as caught:
        load()
    assert "\n" not in caught.value.message


def test_what_config_prints_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = load(
        {},
        gateway_hosts=("bank.example", "127.0.0.1"),
        gateway_trusted_proxies=("127.0.0.9", "10.0.0.0/8"),
        webhook_delays_s=(1, 2.5),
        webhook_http=True,
        service_urls={"im": "http://im:8090"},
        sms_key_id="two words",
        s3_secret_key="canary",
        var_dir=tmp_path,
    )
    lines = list(made.lines())
    assert "BANKHUB_S3_SECRET_KEY='***'" in lines
    assert "BANKHUB_GATEWAY_TRUSTED_PROXIES=127.0.0.9,10.0.0.0/8" in lines
    for line in lines:
        (assignment,) = shlex.split(line)
        monkeypatch.setenv(*assignment.split("=", 1))
    again = load()
    assert again.masked() == made.masked()


def test_every_limit_of_the_hub_is_a_setting() -> None:
    names = [name for name in Settings.model_fields if name.startswith("hub_")]
    assert {name.removeprefix("hub_") for name in names} >= set(Limits.__struct_fields__)
    assert limits_of(load({})) == Limits()
    assert limits_of(load({}, hub_hello_s=1.5)) == Limits(hello_s=1.5)


@pytest.mark.parametrize("bad", [{"access_token_s": 601}, {"service_token_s": 61}, {"gateway_body_bytes": 1}])
def test_limits_have_limits(bad: dict[str, int]) -> None:
    with pytest.raises(Invalid, match=f"BANKHUB_{next(iter(bad)).upper()}: Input should be"):
        load({}, **bad)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"files_orphan_s": 20 * 3600.0}, "FILES_ORPHAN_S: longer than files_upload_life_s"),
        ({"files_upload_life_s": 22.5 * 3600}, "FILES_ORPHAN_S: longer than files_upload_life_s"),
        ({"files_orphan_s": 23.5 * 3600}, "FILES_ORPHAN_S: at most 82800: .* within 24 h"),
        ({"files_upload_life_s": 86400.0}, "FILES_UPLOAD_LIFE_S: at most 86100: .* within 24 h"),
        ({"files_unattached_s": 86400.0}, "FILES_UNATTACHED_S: at most 84600: .* within 24 h"),
    ],
)
def test_what_nothing_refers_to_is_gone_within_a_day(bad: dict[str, float], why: str) -> None:
    with pytest.raises(Invalid, match=why):
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
