"""What the provider says of itself, and that the edge serves features' routes like everything else."""

from __future__ import annotations

from tests.gateway.conftest import World


async def test_both_documents_say_the_same_and_only_what_is_offered(world: World) -> None:
    read = []
    for name in ("openid-configuration", "oauth-authorization-server"):
        async with world.client.session.get(f"{world.client.url}/.well-known/{name}") as answer:
            assert answer.status == 200
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            read.append(await answer.json())
    assert read[0] == read[1]
    said = read[0]
    assert said["issuer"] == world.client.url
    assert said["response_types_supported"] == ["code"]
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["authorization_response_iss_parameter_supported"] is True
    assert "password" not in said["grant_types_supported"]


async def test_the_keys_are_public_only(world: World) -> None:
    async with world.client.session.get(f"{world.client.url}/oauth/jwks") as answer:
        keys = (await answer.json())["keys"]
    assert keys
    for key in keys:
        assert key["alg"] == "ES256"
        assert "d" not in key


async def test_a_route_has_its_methods_and_no_others(world: World) -> None:
    url = f"{world.client.url}/oauth/jwks"
    async with world.client.session.post(url, data=b"") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET"
    async with world.client.session.head(url) as answer:
        assert answer.status == 200
    async with world.client.session.options(url, headers={"Origin": "https://app.example"}) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
