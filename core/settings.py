"""One settings object: environment (``BANKHUB_*``) over an optional TOML file over these defaults.

What is here is read once at start. What may change while the bank is open is in the configuration centre
(`core.config_center`). Every limit has a default and says why; units stand last in the names.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from core.addresses import why_not_host, why_not_network, why_not_origin
from core.errors import Invalid

_PREFIX = "BANKHUB_"
_DAY_S = 86_400
_FILES_JOBS_S = {  # how often the job comes by that takes away what is over
    "files_upload_life_s": 300,
    "files_unattached_s": 1800,
    "files_orphan_s": 3600,
}
_FILE = "BANKHUB_CONFIG_FILE"

Words = Annotated[tuple[str, ...], NoDecode]
"""Several values in one variable, separated by commas."""


Numbers = Annotated[tuple[float, ...], NoDecode]
"""The same with numbers."""


class Settings(BaseSettings):
    """Everything that can be set at start."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    # --- where things are -------------------------------------------------------------------------------------
    var_dir: Path = Path("var")  # state of embedded engines, keys made at first start; 0700
    database_url: SecretStr | None = None  # postgresql://…; None: the embedded engine
    redis_url: SecretStr | None = None  # redis://…; None: the embedded engine
    redis_cluster: bool = False  # whether that address is a node of a cluster
    s3_endpoint_url: str | None = None  # None: the embedded engine
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_bucket: str = "bankhub"
    s3_region: str = "us-east-1"

    # --- the process ------------------------------------------------------------------------------------------
    roles: Words = ()  # services of this process; empty: all of them
    workers: int = Field(default=0, ge=0, le=64)  # 0: cores - 1, at least one
    drain_s: float = Field(default=20.0, ge=0)  # how long SIGTERM lets clients leave
    log_level: str = "info"
    otlp_url: str | None = None  # OTLP over HTTP; None: trace ids travel, nothing is exported
    service_urls: Mapping[str, str] = Field(default_factory=dict)  # BANKHUB_SERVICE_<NAME>_URL

    # --- database ---------------------------------------------------------------------------------------------
    database_pool_min: int = Field(default=2, ge=0)
    database_pool_max: int = Field(default=20, ge=1)  # x workers must stay below max_connections (200)
    database_statement_timeout_s: float = Field(default=30.0, gt=0)

    # --- calls between services -------------------------------------------------------------------------------
    internal_host: str = "127.0.0.1"
    internal_port: int | None = None  # None: this process offers nothing to other processes
    cluster_secret: SecretStr | None = None  # signs service tokens; None: made and kept under var_dir
    service_token_s: float = Field(default=60.0, gt=0, le=60)  # a leaked one is worth a minute at most
    call_timeout_s: float = Field(default=15.0, gt=0)  # when nobody gave a deadline
    call_body_bytes: int = Field(default=8 << 20, ge=1024)
    call_connections: int = Field(default=64, ge=1)  # to one service

    # --- keys -------------------------------------------------------------------------------------------------
    keys_file: Path | None = None  # the ring of keys, a mounted secret; None: made and kept under var_dir
    keys_reload_s: float = Field(default=5.0, gt=0)  # how soon a rotation is noticed; nothing waits for it
    sm2_threads: int = Field(default=2, ge=1)  # that sign: four thousand a second each
    sdf_library: Path | None = None  # of a cryptographic machine (GM/T 0018); None: none is there
    sdf_password_file: Path | None = None  # opens its keys
    sdf_sessions: int = Field(default=4, ge=1)  # calls at once
    sign_server_url: str | None = None  # https://… of a signature server; None: none is there
    sign_server_token_file: Path | None = None
    sign_server_timeout_s: float = Field(default=5.0, gt=0)
    kms_url: str | None = None  # https://…; None: the ring is kept in the file as it is
    kms_key: str = "bankhub"  # the name of our wrapping key there
    kms_token_file: Path | None = None
    kms_timeout_s: float = Field(default=5.0, gt=0)

    # --- audit ------------------------------------------------------------------------------------------------
    audit_chain_s: float = Field(default=1.0, gt=0)  # how long a row is without its place in the sealed chain
    audit_refusals_s: float = Field(
        default=60.0, gt=0
    )  # same refusals within it are one row with their number
    audit_refusals_max: int = Field(
        default=200, ge=1
    )  # kinds of refusal told apart in that time: a botnet must not fill the disk
    audit_seals_file: Path | None = (
        None  # seals leave the database to here; None: audit/seals.jsonl in var_dir
    )

    # --- actions ----------------------------------------------------------------------------------------------
    idempotency_retention_s: float = Field(default=7 * 86400.0, gt=0)  # a phone may be off for some days
    rate_buckets: int = Field(default=100_000, ge=16)  # callers remembered; the oldest are forgotten
    rate_shared: bool = True  # count with all other processes, in Redis; False: every process by itself
    rate_person_burst: int = Field(
        default=240, ge=1
    )  # a person opening an app on two devices asks 60 things at once
    rate_person_per_s: float = Field(default=60.0, gt=0)
    rate_device_burst: int = Field(default=160, ge=1)  # one device alone cannot use up what its owner has
    rate_device_per_s: float = Field(default=40.0, gt=0)
    rate_hello_burst: int = Field(
        default=32, ge=1
    )  # a phone on a train comes back often, a broken client always
    rate_hello_per_s: float = Field(default=0.5, gt=0)
    rate_actions_scale: float = Field(
        default=1.0, gt=0, le=1000
    )  # times the limit that each action declares for one caller: 2 for a bank whose people are twice as quick

    # --- gateway ----------------------------------------------------------------------------------------------
    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=8080, ge=0, le=65_535)
    gateway_body_bytes: int = Field(default=1 << 20, ge=1024)  # files go to the object store, not here
    gateway_header_bytes: int = Field(default=16 << 10, ge=1024)
    gateway_header_timeout_s: float = Field(default=8.0, gt=0)  # slow headers are cut before 10 s
    gateway_body_timeout_s: float = Field(default=9.0, gt=0)
    gateway_read_timeout_s: float = Field(
        default=6.0, gt=0
    )  # how long a client may take its answer too slowly
    gateway_read_bytes_per_s: int = Field(default=1024, ge=1)  # slower than any network people still use
    gateway_keepalive_s: float = Field(
        default=75.0, ge=0
    )  # above a proxy's usual 60 s, so the proxy closes first
    gateway_connections: int = Field(default=10_000, ge=1)  # open sockets of a worker
    gateway_hosts: Words = ()  # names we are asked by; empty: IP addresses and localhost only (see core.addresses)
    gateway_origins: Words = ()  # other origins that may call from a browser; empty: only our own pages
    gateway_trusted_proxies: Words = ()  # CIDRs whose X-Forwarded-For is believed
    gateway_metrics_token: SecretStr | None = None  # None: /metrics answers loopback only
    gateway_rate_burst: int = Field(
        default=1000, ge=1
    )  # requests of one address, which a whole firm may share
    gateway_rate_per_s: float = Field(default=300.0, gt=0)

    # --- webhooks ---------------------------------------------------------------------------------------------
    webhook_max: int = Field(default=20, ge=1)  # of one enterprise
    webhook_http: bool = False  # whether http will do; for tests
    webhook_private: bool = (
        False  # whether addresses inside will do: whoever registers a URL could reach them
    )
    webhook_timeout_s: float = Field(default=15.0, gt=0)  # of one attempt, all in all
    webhook_poll_s: float = Field(default=2.0, gt=0)  # how long an event waits for the sender at most
    webhook_delays_s: Numbers = (
        5,
        60,
        300,
        1800,
        7200,
        18000,
        36000,
        50400,
        72000,
        86400,
    )  # three days in all
    webhook_disable_s: float = Field(default=5 * 86400.0, gt=0)  # nothing got through for so long
    webhook_secret_overlap_s: float = Field(default=86400.0, ge=0)  # a day to put the new one everywhere
    webhook_retention_s: float = Field(default=30 * 86400.0, gt=0)  # of the log of deliveries

    # --- identity ---------------------------------------------------------------------------------------------
    access_token_s: float = Field(default=600.0, gt=0, le=600)  # how long a stolen one works at most
    session_idle_s: float = Field(default=7 * 86400.0, gt=0)  # of a session bound to a device: a phone in use
    session_absolute_s: float = Field(default=30 * 86400.0, gt=0)
    session_bearer_idle_s: float = Field(
        default=30 * 60.0, gt=0
    )  # of one that anybody with its tokens could go on
    session_bearer_absolute_s: float = Field(default=12 * 3600.0, gt=0)  # a working day
    bearer_sessions: bool = True  # False: nobody logs in without a key
    possession_roles: Words = (
        "bank_operator",
        "bank_reviewer",
        "bank_auditor",
        "bank_support",
        "bank_administrator",
    )  # who has one of these works with a key's proof only; add administrator where every client has keys
    sessions_max: int = Field(default=10, ge=1)  # of a person: some devices with an app and a browser each
    revocation_poll_s: float = Field(
        default=10.0, gt=0, le=20
    )  # what the bus lost is known in every process within 30 s
    devices_max: int = Field(default=3, ge=1)  # trusted ones of a person
    device_known_s: float = Field(
        default=180 * 86400.0, ge=0
    )  # a device that logged in so lately counts its failures for itself: nobody locks its owner out
    device_new_s: float = Field(
        default=86400.0, ge=0
    )  # for so long what moves money asks more of a new device
    dpop_age_s: float = Field(
        default=60.0, gt=0, le=300
    )  # how old a proof may be; phones' clocks are set by networks
    dpop_skew_s: float = Field(default=5.0, ge=0, le=60)  # and how far in the future
    refresh_grace_s: float = Field(default=30.0, ge=0)  # a reply lost on a train must not log anybody out
    refresh_bearer_grace_s: float = Field(
        default=0.0, ge=0
    )  # where no key is: a thief could ask again as well as the owner, so the second time ends the session
    password_memory_kib: int = Field(default=19_456, ge=1024)  # argon2id, OWASP's first choice
    password_time_cost: int = Field(default=2, ge=1)
    password_threads: int = Field(default=2, ge=1)  # hashing never takes the loop's thread
    password_waiting: int = Field(default=64, ge=1)  # beyond it: too_many_requests, not a long queue
    login_free_failures: int = Field(default=5, ge=0)  # of one account from one source, before delays
    login_source_failures: int = Field(default=50, ge=1)  # of one source over all accounts, before delays
    login_account_burst: int = Field(
        default=30, ge=1
    )  # logins of one account on new devices, from all sources
    login_account_per_s: float = Field(default=1 / 120, gt=0)  # 720 guesses a day, wherever they come from
    login_ticket_s: float = Field(default=300.0, gt=0, le=600)  # between the two factors of a login
    recovery_codes: int = Field(default=10, ge=1, le=50)
    totp_issuer: str = "bankhub"  # what authenticators show beside the account
    login_delay_s: float = Field(default=2.0, gt=0)  # doubles with every further failure
    login_delay_max_s: float = Field(default=900.0, gt=0)
    login_forget_s: float = Field(default=1800.0, gt=0)  # failures older than this no longer count

    step_up_s: float = Field(
        default=300.0, gt=0, le=300
    )  # to read and confirm what a challenge says, and then to do it
    proposal_s: float = Field(
        default=7 * 86400.0, gt=0
    )  # for the second of two persons; an older proposal is about a state that nobody remembers

    # --- one-time codes and short messages ----------------------------------------------------------------------
    code_life_s: float = Field(default=120.0, gt=0, le=120)  # JR/T 0068: a minute or two
    code_tries: int = Field(default=3, ge=1, le=5)  # of a million: what guessing may cost
    code_gap_s: float = Field(default=60.0, ge=0)  # between two to one phone that one source asks for
    code_phone_per_day: int = Field(default=16, ge=1)  # a phone is not to be flooded
    code_phone_source_per_day: int = Field(
        default=8, ge=1
    )  # of these from one source, which leaves as many to the owner's
    code_person_per_day: int = Field(default=20, ge=1)  # that one logged-in person asks for, to any numbers
    code_source_per_day: int = Field(
        default=200, ge=1
    )  # an office has one address; known devices are counted apart
    public_url: str | None = None  # where clients are served, for links; None: a path without a host
    sms_url: str | None = None  # the platform's HTTPS address; None: var/sms.jsonl, which `up` prints
    sms_key_id: str = "bankhub"
    sms_secret: SecretStr | None = None  # signs requests to the platform
    sms_timeout_s: float = Field(default=5.0, gt=0)  # a code that is late is of no use
    sms_attempts: int = Field(default=3, ge=1, le=10)
    sms_retry_s: float = Field(default=0.5, ge=0)  # doubles
    sms_waiting: int = Field(default=1000, ge=1)  # beyond it messages are dropped, and counted

    # --- OAuth ------------------------------------------------------------------------------------------------
    oauth_issuer: str | None = (
        None  # https://host, as apps see us; None: where this process listens (laptops)
    )

    oauth_code_s: float = Field(default=60.0, gt=0, le=60)  # a browser needs one to follow a redirect
    oauth_refresh_s: float = Field(default=30 * 86400.0, gt=0)  # an app not used for a month asks anew
    oauth_family_s: float = Field(default=180 * 86400.0, gt=0)  # and every half year in any case
    oauth_pushed_s: float = Field(default=90.0, gt=0, le=600)  # RFC 9126: short
    oauth_interaction_s: float = Field(default=600.0, gt=0)  # to type a password and read what is asked for
    oauth_browser_idle_s: float = Field(default=600.0, gt=0)  # logged in on our pages without doing anything
    oauth_browser_s: float = Field(default=12 * 3600.0, gt=0)  # and at most
    oauth_assertion_s: float = Field(
        default=3600.0, gt=0, le=3600
    )  # of a client's signed proof, which is good once
    oauth_bridge_s: float = Field(default=600.0, gt=0, le=600)
    oauth_form_bytes: int = Field(default=16 << 10, ge=1024)  # of one post: tokens, not documents

    # --- files ------------------------------------------------------------------------------------------------
    files_max_bytes: int = Field(default=4 << 30, ge=1)  # of one file, whatever its kind
    files_person_quota_bytes: int = Field(default=20 << 30, ge=0)  # an enterprise may give its people less
    files_enterprise_quota_bytes: int = Field(default=1 << 40, ge=0)
    files_at_rest_encrypted: bool = True  # the store encrypts what it keeps (SSE-S3)
    files_idle_s: float = Field(default=30.0, gt=0)  # a phone in a lift; then the upload is ended
    files_bytes_per_s: int = Field(default=1024, ge=1)  # slower than any network people still use
    files_uploads_at_once: int = Field(default=8, ge=1)  # streams of one person through one process
    files_uploads_open: int = Field(default=100, ge=1)  # uploads in parts that a person may have begun
    files_upload_life_s: float = Field(default=20 * 3600.0, gt=0)  # from its beginning; then it is given up
    files_wait_s: float = Field(default=8.0, ge=0)  # for checks before an upload is answered "still checking"
    files_link_s: float = Field(default=300.0, gt=0, le=300)  # of an address that whoever has it may read
    files_public_url: str | None = (
        None  # https://… of a host for addresses of files alone; None: the gateway's own
    )
    files_direct_url: str | None = None  # where clients reach the store themselves; None: through us only
    files_spool_dir: Path | None = (
        None  # disk for what is being checked or sent in parts; None: spool in var_dir
    )
    files_store_connections: int = Field(default=64, ge=1)  # to the store, of a process
    files_unattached_s: float = Field(default=20 * 3600.0, gt=0)  # a file that nobody sent; gone within a day
    files_orphan_s: float = Field(
        default=22 * 3600.0, gt=0, validate_default=True
    )  # objects that no row knows: longer than an upload may take
    files_quarantine_s: float = Field(default=7 * 86400.0, gt=0)  # for the bank to look at what was refused
    files_macros: bool = False  # whether Office files with macros are taken: the usual way in
    files_encrypted: bool = False  # whether archives and documents are that no scanner can look into
    files_clamd: str | None = None  # tcp://host:port or unix:///path of clamd; None: nothing is scanned
    files_clamd_timeout_s: float = Field(
        default=60.0, gt=0
    )  # of a step; clamd stands still while it reloads its base
    files_rescan_s: float = Field(
        default=7 * 86400.0, gt=0
    )  # then a kept content is scanned with newer signatures
    files_workshop_processes: int = Field(default=1, ge=1, le=32)  # that decode; one does two photos a second
    files_workshop_waiting: int = Field(
        default=64, ge=1
    )  # files in line; beyond it: unavailable, not a long queue
    files_workshop_wait_s: float = Field(default=60.0, gt=0)  # how long in line before that is said
    files_workshop_timeout_s: float = Field(default=20.0, gt=0)  # of one file: the largest photo takes three
    files_workshop_memory_bytes: int = Field(
        default=1 << 30, ge=256 << 20
    )  # of a process: a picture of 64 million pixels, turned, and its copies
    files_workshop_tasks: int = Field(default=200, ge=1)  # then a new process: what leaks, leaks so far
    files_image_pixels: int = Field(default=64_000_000, ge=1)  # photos of today's phones have 50 million
    files_archive_entries: int = Field(default=10_000, ge=1)  # a firm's year of scans
    files_archive_inflated_bytes: int = Field(default=8 << 30, ge=1)  # what the receiver's disk takes

    # --- hub --------------------------------------------------------------------------------------------------
    hub_host: str = "127.0.0.1"
    hub_port: int = Field(default=8081, ge=0, le=65_535)
    hub_frames_per_s: float = Field(
        default=100.0, gt=0
    )  # of a connection; nobody types that fast, the rest is marks
    hub_frames_burst: float = Field(default=200.0, ge=1)  # who comes back syncs many streams at once
    hub_sends_per_s: float = Field(default=20.0, gt=0)  # of a person, over all devices on a node
    hub_sends_burst: float = Field(default=40.0, ge=1)
    hub_refusals_before_bye: int = Field(
        default=200, ge=1
    )  # so many refused frames on end, and the session ends
    hub_soft_queue_bytes: int = Field(
        default=256 << 10, ge=16 << 10
    )  # above it signals are dropped, chat becomes GAPs
    hub_hard_queue_bytes: int = Field(
        default=1 << 20, ge=64 << 10
    )  # above it the session is told to come back
    hub_stall_s: float = Field(default=30.0, gt=0)  # no byte taken for so long is as good as gone
    hub_hello_s: float = Field(default=5.0, gt=0, le=60)  # a stranger's socket is a stranger's memory
    hub_undecided_per_source: int = Field(
        default=20, ge=1
    )  # connections of one address that have not said who they are; an office comes back in waves
    hub_ping_s: float = Field(
        default=25.0, gt=0
    )  # below the idle cut of mobile carriers' NAT (30 s and more)
    hub_pong_s: float = Field(default=8.0, gt=0)  # for the answer to a ping
    hub_connections_per_person: int = Field(default=10, ge=1)  # devices at once on one node
    hub_calls_in_flight: int = Field(default=16, ge=1)  # CALLs of one session that wait for an answer

    # --- im -----------------------------------------------------------------------------------------------------
    im_group_members_max: int = Field(default=10_000, ge=2)  # one message is one row and as many deliveries

    @field_validator("sms_url")
    @classmethod
    def _is_safe_way(cls, value: str | None) -> str | None:
        if value is None or re.match(r"https://|http://(127\.0\.0\.1|localhost)[:/]", value):
            return value
        raise ValueError("https, or http on this machine")

    @field_validator("oauth_issuer")
    @classmethod
    def _is_issuer(cls, value: str | None) -> str | None:
        if value is None or re.fullmatch(r"https://[a-z0-9.-]+(:[0-9]{1,5})?", value):
            return value
        if re.fullmatch(r"http://(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", value):
            return value
        raise ValueError("https://host or https://host:port, nothing after it")

    @field_validator("gateway_hosts", "gateway_origins", "gateway_trusted_proxies")
    @classmethod
    def _are_places(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for why in filter(None, map(_WHY_NOT[info.field_name or ""], value)):
            raise ValueError(f"{why}; several are separated by commas")
        return value

    @field_validator("files_upload_life_s", "files_unattached_s", "files_orphan_s")
    @classmethod
    def _is_gone_within_a_day(cls, value: float, info: ValidationInfo) -> float:
        """What nothing refers to is gone after 24 hours, the job that takes it away included."""
        most_s = _DAY_S - _FILES_JOBS_S[info.field_name or ""]
        if value > most_s:
            raise ValueError(
                f"at most {most_s}: what nothing refers to is gone within 24 h, its job included"
            )
        if info.field_name == "files_orphan_s" and value <= info.data.get("files_upload_life_s", 0):
            raise ValueError("longer than files_upload_life_s: what is being uploaded is nobody's orphan")
        return value

    @field_validator("log_level")
    @classmethod
    def _is_level(cls, value: str) -> str:
        if value.lower() not in _LEVELS:
            raise ValueError(f"one of {', '.join(_LEVELS)}")
        return value.lower()

    @field_validator(
        "roles",
        "possession_roles",
        "gateway_hosts",
        "gateway_origins",
        "gateway_trusted_proxies",
        "webhook_delays_s",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return (
            tuple(word.strip() for word in value.split(",") if word.strip())
            if isinstance(value, str)
            else value
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = TomlConfigSettingsSource(settings_cls, toml_file=os.environ.get(_FILE, "bankhub.toml"))
        return init_settings, env_settings, file

    def lines(self) -> Iterator[str]:
        """Every setting as a shell would set it, secrets as ``***``: what `bankhub config` prints."""
        for name, value in self.masked().items():
            if isinstance(value, Mapping):
                for key, url in value.items():
                    yield f"{_PREFIX}SERVICE_{key.upper()}_URL={shlex.quote(url)}"
                continue
            if isinstance(value, list):
                value = ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
            elif isinstance(value, bool):
                value = "true" if value else "false"
            yield f"{_PREFIX}{name.upper()}={'' if value is None else shlex.quote(str(value))}"

    def masked(self) -> dict[str, object]:
        """Every setting by name with its value, secrets as ``***``."""
        shown: dict[str, object] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = "***"
            elif isinstance(value, Path):
                value = str(value)
            elif isinstance(value, tuple):
                value = list(value)
            shown[name] = value
        return shown


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings of this process.

    `overrides` win over everything (flags of the command line, tests). Raises `Invalid` for a variable with our
    prefix, or a line of the file, that sets nothing: a limit that silently does not apply is worse than no start.
    Those that Kubernetes gives every pod for services called bankhub-… (``BANKHUB_PORT_…``) are let be.
    """
    environ = os.environ if environ is None else environ
    urls: dict[str, str] = {}
    for name, value in environ.items():
        if not name.startswith(_PREFIX):
            continue
        rest = name.removeprefix(_PREFIX).lower()
        secret = rest.removesuffix("_file")
        if rest not in Settings.model_fields and secret in _SECRETS and secret != rest:
            if f"{_PREFIX}{secret.upper()}" in environ:
                raise Invalid(f"{name} and {_PREFIX}{secret.upper()} are both set: which one?")
            overrides.setdefault(secret, _content(name, Path(value)))
        elif rest.startswith("service_") and rest.endswith("_url") and rest != "service_url":
            urls[rest.removeprefix("service_").removesuffix("_url")] = value.rstrip("/")
        elif (
            rest not in Settings.model_fields
            and rest not in _ELSEWHERE
            and not _OF_KUBERNETES.fullmatch(rest)
        ):
            raise Invalid(f"unknown setting {name}" + _meant(rest, lambda known: f"{_PREFIX}{known.upper()}"))
    if urls:
        overrides.setdefault("service_urls", urls)
    file = environ.get(_FILE)
    if file and not Path(file).is_file():
        raise Invalid(f"{_FILE}: there is no file {file}")
    _check_file(Path(file or os.environ.get(_FILE) or "bankhub.toml"))
    try:
        return Settings(**overrides)
    except ValidationError as error:
        wrong = [
            f"{_PREFIX}{'_'.join(map(str, one['loc'])).upper()}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise Invalid("; ".join(wrong)) from None


def _meant(unknown: str, shown: Callable[[str], str]) -> str:
    """The nearest name that there is, as a question."""
    known = [*Settings.model_fields, *(f"{one}_file" for one in _SECRETS)]
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.6)
    return f": {shown(near[0])} is meant?" if near else "; `bankhub config` prints those that there are"


def _check_file(path: Path) -> None:
    """Raises `Invalid` for a file that is no TOML, or says something that is no setting."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise Invalid(f"{path}: {error}") from None
    for name in said:
        if name not in Settings.model_fields:
            raise Invalid(f"{path}: unknown setting {name}" + _meant(name, str))


def _content(name: str, path: Path) -> str:
    """A secret out of a file, which leaves nothing in the environment for others to read."""
    from core.keys import read_secret  # which knows settings

    try:
        return read_secret(path).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{name}: {path} cannot be read") from error


_SECRETS = frozenset(
    name for name, field in Settings.model_fields.items() if field.annotation == (SecretStr | None)
)
"""Settings that may come as ``BANKHUB_…_FILE``: the path of a file with the value."""

_WHY_NOT: dict[str, Callable[[str], str | None]] = {
    "gateway_hosts": why_not_host,
    "gateway_origins": why_not_origin,
    "gateway_trusted_proxies": why_not_network,
}
_LEVELS = ("debug", "info", "warning", "error", "critical")

_OF_KUBERNETES = re.compile(
    r"([a-z0-9_]+_)?(service_(host|port(_[a-z0-9_]+)?)|port(_[0-9]+_(tcp|udp|sctp)(_(addr|port|proto))?)?)"
)
"""What Kubernetes sets for a service called bankhub or bankhub-…, as Docker's links did."""

_ELSEWHERE = frozenset(
    {"config_file", "failpoints", "python", "preparing", "ready_fd"}
    | {"test_database_url", "test_redis_url", "test_pictures"}
)
"""Variables with our prefix that are read by others: before settings exist, or by tests only."""
