"""What `gateway/oauth/rules.py` and `apps/rules.py` promise, without any I/O."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Invalid
from gateway.oauth.apps.rules import (
    Client,
    check_registration,
    check_title,
    checked_uri,
    client_keys,
    effective,
    sector_of,
    subject,
)
from gateway.oauth.rules import (
    Assertion,
    Choice,
    Code,
    Refresh,
    Refusal,
    Request,
    Standing,
    Step,
    Verdict,
    answer_uri,
    authorization,
    challenge_of,
    fewer_scopes,
    judge_code,
    judge_refresh,
    next_step,
    parameters,
    redirect_uri_of,
    same_secret,
)
from gateway.oauth.sealing import Interaction, seal, unseal

REGISTERED = "https://app.example/cb"
CLIENT = Client(
    app_id=7,
    enterprise_id=1,
    title="t",
    auth_method="none",
    redirect_uris=(REGISTERED, "https://app.example/cb?tenant=1"),
    logout_uris=(),
    sector="1:app.example",
    scopes=frozenset({"openid", "contacts:read"}),
    published=False,
    machine=False,
    money_related=False,
    resource_server=False,
    active=True,
)
GOOD = {
    "response_type": "code",
    "scope": "openid",
    "nonce": "n",
    "code_challenge": "x" * 43,
    "code_challenge_method": "S256",
}

VARIANTS = [
    "https://app.example/cb/evil",
    "https://app.example/cb/../evil",
    "https://app.example/cb%2f..%2fevil",
    "https://app.example/cb?x=1",
    "https://app.example/cb#",
    "https://app.example/cb#code",
    "https://app.example/cb?",
    "https://app.example/c",
    "https://app.example/CB",
    "https://app.example/cb ",
    " https://app.example/cb",
    "https://app.example/cb\n",
    "https://app.example:443/cb",
    "https://APP.example/cb",
    "http://app.example/cb",
    "https://app.example.evil.example/cb",
    "https://evil.example/cb",
    "https://evil.example/?https://app.example/cb",
    "https://app.example@evil.example/cb",
    "https://user@app.example/cb",
    "https://app.example\\@evil.example/cb",
    "https://evil.example\\.app.example/cb",
    "https:///app.example/cb",
    "https:/app.example/cb",
    "//app.example/cb",
    "/cb",
    "javascript:alert(1)",
    "data:text/html,x",
    "https://app.example/%63b",
    "https://app.example./cb",
    "https://xn--app.example/cb",
    "https://аpp.example/cb",  # a Cyrillic a
    "https://app.example/cb\x00",
    "",
    None,
]


@pytest.mark.parametrize("uri", VARIANTS)
def test_only_the_registered_address_character_by_character(uri: str | None) -> None:
    with pytest.raises(Refusal):
        redirect_uri_of(CLIENT, uri)


@given(st.text(max_size=60))
def test_nothing_else_is_near_enough(text: str) -> None:
    for uri in (REGISTERED + text, text + REGISTERED):
        if uri not in CLIENT.redirect_uris:
            with pytest.raises(Refusal):
                redirect_uri_of(CLIENT, uri)
    assert redirect_uri_of(CLIENT, REGISTERED) == REGISTERED


@pytest.mark.parametrize(
    "uri",
    [
        "http://app.example/cb",
        "https://app.example/cb#x",
        "https://u:p@app.example/cb",
        "https://app.example/a/../b",
        "https://app.example/a/%2e%2e/b",
        "https://app.example/a/%2E%2E%2Fb",
        "https://*.app.example/cb",
        "https://app.example\\evil",
        "https://app_.example/cb",
        "https://-app.example/cb",
        "https://app..example/cb",
        "https://app.example:99999/cb",
        "https://APP.example/cb",
        "https://应用.example/cb",
        "javascript:alert(1)",
        "app.example:/cb",
        "http://localhost.evil.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "https://app.example/a b",
        "https://app.example/<script>",
        'https://app.example/"',
        "https://app.example/\r\nSet-Cookie:x",
        "",
    ],
)
def test_what_may_not_be_registered(uri: str) -> None:
    with pytest.raises(Invalid):
        checked_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example",
        "https://app.example/",
        "https://app.example:8443/cb?x=1&y=%20",
        "http://127.0.0.1:9999/cb",
        "http://[::1]/cb",
        "http://localhost:3000/cb",
    ],
)
def test_what_may_be_registered(uri: str) -> None:
    assert checked_uri(uri) == uri


def test_registrations_that_do_not_fit_together() -> None:
    from joserfc.jwk import ECKey, OctKey, RSAKey

    good = {
        "auth_method": "none",
        "redirect_uris": [REGISTERED],
        "logout_uris": [],
        "machine": False,
        "money_related": False,
        "jwks": None,
    }
    check_registration(**good)  # type: ignore[arg-type]
    key = ECKey.generate_key("P-256")
    public = {"keys": [key.as_dict(private=False)]}
    wrongs: tuple[dict[str, object], ...] = (
        {"redirect_uris": []},
        {"redirect_uris": [REGISTERED, REGISTERED]},
        {"machine": True},
        {"jwks": public},
        {"auth_method": "private_key_jwt"},
        {"auth_method": "client_secret_basic", "money_related": True},
        {"auth_method": "private_key_jwt", "jwks": {"keys": [key.as_dict(private=True)]}},
        {"auth_method": "private_key_jwt", "jwks": {"keys": []}},
        {"auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "EC"}]}},
        {"auth_method": "private_key_jwt", "jwks": {"keys": [OctKey.generate_key(256).as_dict()]}},
        {
            "auth_method": "private_key_jwt",
            "jwks": {"keys": [ECKey.generate_key("P-384").as_dict(private=False)]},
        },
        {"auth_method": "private_key_jwt", "jwks": public | {"jwks_uri": "https://inside.example"}},
    )
    for wrong in wrongs:
        with pytest.raises(Invalid):
            check_registration(**(good | wrong))  # type: ignore[arg-type]
    rsa = RSAKey.generate_key(2048)
    assert client_keys({"keys": [rsa.as_dict(private=False)]}).keys


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["keys", "kty", "crv", "x", "y", "n", "e", "k", "d", "kid", "use", "alg"]),
                inner,
            )
        ),
    )
)
def test_nothing_that_somebody_calls_a_key_breaks_us(thing: object) -> None:
    for jwks in (
        thing,
        {"keys": thing},
        {"keys": [thing]},
        {"keys": [{"kty": "EC", "crv": "P-256", "x": thing}]},
    ):
        if isinstance(jwks, dict):
            with contextlib.suppress(Invalid):
                client_keys(jwks)


@pytest.mark.parametrize("title", ["a\u202eb", "a\u200bb", "a\nb", "a\x00b", "\ufeffx", "a\u2028b"])
def test_titles_show_what_they_are(title: str) -> None:
    with pytest.raises(Invalid):
        check_title(title)
    check_title("考勤助手 2.0（测试）")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": "none"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "x" * 42}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"nonce": "x" * 257}, "invalid_request"),
        ({"state": "x" * 513}, "invalid_request"),
        ({"state": "中"}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "transfers:create"}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "create"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1e9"}, "invalid_request"),
        ({"ent": "x"}, "invalid_request"),
        ({"dpop_jkt": "x"}, "invalid_request"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.example"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
    ],
)
def test_requests_that_the_client_is_told_about(change: dict[str, str | None], error: str) -> None:
    given_ = {k: v for k, v in (GOOD | change).items() if v is not None}
    with pytest.raises(Refusal) as caught:
        authorization(CLIENT, REGISTERED, given_, pushed=False)
    assert caught.value.error == error


def test_parameters_once_and_not_too_many() -> None:
    assert parameters("a=1&b=&c=%E4%B8%AD") == {"a": "1", "c": "中"}
    assert parameters("") == {}
    for bad in ("a=1&a=2", "a=1&a=", "a", "&".join(f"p{i}=1" for i in range(41)), "a=%FF", "a=1&&b"):
        with pytest.raises(Refusal):
            parameters(bad)


def test_the_answer_always_names_the_issuer() -> None:
    uri = answer_uri("https://app.example/cb?x=1", "https://bank.example", "a&b=c", code="k")
    assert uri == "https://app.example/cb?x=1&code=k&state=a%26b%3Dc&iss=https%3A%2F%2Fbank.example"


# --- steps ------------------------------------------------------------------------------------------------------------

_HERE = Choice(1, "here", frozenset({"openid"}), frozenset())
_KNOWN = Choice(2, "there", frozenset({"openid"}), frozenset({"openid"}))


def _request(**more: object) -> Request:
    fields = {"app_id": 7, "redirect_uri": REGISTERED, "scopes": ("openid",), "challenge": "x" * 43}
    return Request(**(fields | more))  # type: ignore[arg-type]


@given(
    logged_in=st.booleans(),
    fresh=st.booleans(),
    age_s=st.integers(0, 100),
    acr=st.integers(1, 2),
    choices=st.lists(st.sampled_from([_HERE, _KNOWN]), unique=True),
    chosen=st.sampled_from([0, 1, 2, 3]),
    agreed=st.sampled_from([frozenset(), frozenset({"openid"}), frozenset({"other"})]),
    prompts=st.sets(st.sampled_from(["login", "consent", "select_account"])) | st.just({"none"}),
    max_age=st.none() | st.integers(0, 50),
    least=st.integers(0, 2),
    hint=st.sampled_from([0, 1, 2, 3]),
)
def test_a_code_only_for_who_has_done_everything(
    logged_in: bool,
    fresh: bool,
    age_s: int,
    acr: int,
    choices: list[Choice],
    chosen: int,
    agreed: frozenset[str],
    prompts: set[str],
    max_age: int | None,
    least: int,
    hint: int,
) -> None:
    request = _request(prompts=tuple(sorted(prompts)), max_age_s=max_age, least_acr=least, enterprise_id=hint)
    standing = Standing(logged_in, fresh, 1_000_000 - age_s * 1000, acr, choices, chosen, agreed)
    try:
        step, choice = next_step(request, standing, 1_000_000)
    except Refusal:
        return
    if "none" in prompts:
        assert step is Step.ISSUE, "prompt=none shows no page"
    if step is not Step.ISSUE:
        return
    assert logged_in
    assert choice in choices
    assert choice is not None
    assert acr >= least
    assert fresh or ("login" not in prompts and (max_age is None or age_s <= max_age))
    assert choice.scopes <= agreed or ("consent" not in prompts and choice.scopes <= choice.granted)
    assert chosen or "select_account" not in prompts
    assert choice.enterprise_id == (chosen or hint or choice.enterprise_id)
    assert len(choices) == 1 or chosen or hint


# --- codes, refresh tokens, assertions --------------------------------------------------------------------------------

_VERIFIER = "v" * 43
_CODE = Code(7, REGISTERED, challenge_of(_VERIFIER), 60_000, used=False)


def test_codes() -> None:
    def verdict(code: Code = _CODE, **more: object) -> Verdict:
        fields = {"app_id": 7, "redirect_uri": REGISTERED, "verifier": _VERIFIER, "jkt": None, "now_ms": 0}
        return judge_code(code, **(fields | more))  # type: ignore[arg-type]

    assert verdict() is Verdict.ACCEPT
    for wrong in (
        {"app_id": 8},
        {"redirect_uri": None},
        {"redirect_uri": REGISTERED + "/"},
        {"verifier": ""},
        {"verifier": "w" * 43},
        {"verifier": challenge_of(_VERIFIER)},
        {"verifier": "v" * 42},
        {"verifier": "v" * 129},
        {"now_ms": 60_000},
    ):
        assert verdict(**wrong) is Verdict.REFUSE, wrong
    used = Code(7, REGISTERED, challenge_of(_VERIFIER), 60_000, used=True)
    assert verdict(used) is Verdict.KILL
    assert verdict(used, now_ms=60_001, verifier="x") is Verdict.KILL
    assert verdict(used, app_id=8) is Verdict.REFUSE, "nobody kills what is not theirs"
    bound = Code(7, REGISTERED, challenge_of(_VERIFIER), 60_000, used=False, jkt="k")
    assert verdict(bound) is Verdict.REFUSE
    assert verdict(bound, jkt="k") is Verdict.ACCEPT


def test_refresh_tokens() -> None:
    good = Refresh(7, 100, rotated=False, family_expires_ms=200, family_ended=False)
    assert judge_refresh(good, 7, None, 0) is Verdict.ACCEPT
    assert judge_refresh(good, 8, None, 0) is Verdict.REFUSE
    assert judge_refresh(good, 7, None, 100) is Verdict.REFUSE
    assert judge_refresh(good, 7, "k", 0) is Verdict.REFUSE
    bound = Refresh(7, 100, rotated=False, family_expires_ms=200, family_ended=False, jkt="k")
    assert judge_refresh(bound, 7, "other", 0) is Verdict.REFUSE, "a public client has nothing else"
    assert judge_refresh(bound, 7, "other", 0, proved=True) is Verdict.ACCEPT
    assert judge_refresh(bound, 7, None, 0, proved=True) is Verdict.REFUSE
    assert judge_refresh(good, 7, "k", 0, proved=True) is Verdict.REFUSE
    assert judge_refresh(Refresh(7, 100, True, 200, False), 7, None, 0) is Verdict.KILL
    assert judge_refresh(Refresh(7, 100, True, 200, False), 8, None, 0) is Verdict.REFUSE
    assert judge_refresh(Refresh(7, 100, False, 200, True), 7, None, 0) is Verdict.REFUSE
    assert fewer_scopes(None, frozenset("ab")) == frozenset("ab")
    assert fewer_scopes("a", frozenset("ab")) == frozenset("a")
    with pytest.raises(Refusal):
        fewer_scopes("a c", frozenset("ab"))


def test_assertions() -> None:
    good = {"iss": "7", "sub": "7", "aud": "https://b", "exp": 160, "iat": 100, "jti": "12345678"}
    check = {"client_id": "7", "audiences": frozenset({"https://b"}), "now_s": 100, "most_s": 300}
    assert Assertion(good).check(**check) == ("12345678", 160)  # type: ignore[arg-type]
    assert Assertion(good | {"aud": [1, "https://b"]}).check(**check) == ("12345678", 160)  # type: ignore[arg-type]
    bad: tuple[dict[str, object], ...] = (
        {"iss": "8"},
        {"sub": "8"},
        {"aud": "https://evil"},
        {"aud": ["https://evil"]},
        {"aud": None},
        {"exp": 100},
        {"exp": 461},
        {"aud": 5},
        {"aud": [{}, None]},
        {"exp": None},
        {"exp": "160"},
        {"nbf": 200},
        {"iat": 200},
        {"jti": None},
        {"jti": "x"},
    )
    for worse in bad:
        with pytest.raises(Refusal):
            Assertion(good | worse).check(**check)  # type: ignore[arg-type]


def test_a_secret_is_compared_as_a_whole() -> None:
    from gateway.oauth.rules import digest

    assert same_secret("s", digest("s"))
    assert not same_secret("s", digest("t"))
    assert not same_secret("", None)


# --- scopes and names -------------------------------------------------------------------------------------------------

_NAMES = st.sets(st.sampled_from(["openid", "profile", "contacts:read", "a:b", "c:d"]))


@given(_NAMES, _NAMES, _NAMES, _NAMES)
def test_effective_scopes_never_exceed_anybody(
    asked: set[str], approved: set[str], installed: set[str], held: set[str]
) -> None:
    client = Client(
        **{name: getattr(CLIENT, name) for name in CLIENT.__slots__} | {"scopes": frozenset(approved)}
    )
    found = effective(asked, client, installed, held)
    assert found <= asked & approved
    assert found - {"openid", "profile"} <= installed & held


def test_names_of_people_differ_by_sector_person_and_enterprise() -> None:
    names = {
        subject(secret, sector, person, enterprise)
        for secret in (b"1", b"2")
        for sector in ("1:a.example", "1:b.example")
        for person in (1, 11)
        for enterprise in (0, 1)
    }
    assert len(names) == 16
    assert sector_of(1, 7, ["https://a.example/x", "https://a.example/y"]) == "1:a.example"
    assert sector_of(2, 7, ["https://a.example/x"]) == "2:a.example", "another owner's host is not ours"
    assert sector_of(1, 7, ["https://a.example/x", "https://b.example/y"]) == "app:7"


def test_a_sealed_page_is_of_one_browser_and_one_purpose() -> None:
    interaction = Interaction(
        "k", _request(state="s", prompts=("login",)), fresh=3, chosen=4, shown=("openid",)
    )
    sealed = seal(b"s" * 32, interaction, "cookie", 1000)
    assert unseal(b"s" * 32, sealed, "cookie", 999) == interaction
    assert unseal(b"s" * 32, sealed, "cookie", 1000) is None
    assert unseal(b"s" * 32, sealed, "another", 999) is None
    assert unseal(b"t" * 32, sealed, "cookie", 999) is None
    assert unseal(b"s" * 32, sealed[:-2], "cookie", 999) is None
    assert unseal(b"s" * 32, "", "cookie", 999) is None
