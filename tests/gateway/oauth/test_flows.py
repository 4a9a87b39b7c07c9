"""The flows as they should go."""

from __future__ import annotations

import pytest

from tests.gateway.oauth.conftest import Kit


@pytest.mark.parametrize("method", ["none", "client_secret_basic", "private_key_jwt"])
async def test_code_flow(kit: Kit, method: str) -> None:
    app = await kit.register(method)
    tokens = await kit.tokens(app)
    assert tokens["token_type"] == "Bearer"
    assert tokens["scope"] == "contacts:read openid profile"
    assert await kit.members(tokens["access_token"]) == 200
    again = await kit.refresh(app, tokens["refresh_token"])
    assert again.status == 200, again.text
    assert await kit.members(again.json["access_token"]) == 200
