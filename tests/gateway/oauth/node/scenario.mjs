// Every flow and every refusal, by an unrelated client library (npm openid-client), against whichever provider it is given.
// Prints {check: outcome}; what an outcome is called does not depend on the provider.

import * as client from "openid-client";
import { Browser } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const { issuer, login, password, app, other, publicApp, signed } = given;
const insecure = { execute: [client.allowInsecureRequests] };
const keyOf = ({ jwk }) => crypto.subtle.importKey("jwk", jwk, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
const auth = (one) => {
  if (one.key) return client.PrivateKeyJwt(one.key);
  return one.client_secret ? client.ClientSecretBasic(one.client_secret) : client.None();
};
const meta = (one) => ({ id_token_signed_response_alg: "ES256", redirect_uris: [one.redirect_uri] });
const configuration = (one) => client.discovery(new URL(issuer), one.client_id, meta(one), auth(one), insecure);
const outcomes = {};

const check = async (name, run) => {
  try {
    outcomes[name] = await run();
  } catch (error) {
    outcomes[name] = `failed: ${error.name}: ${error.message} ${error.code ?? ""} ${error.cause ?? ""}`;
  }
};

// What a refusal is called: the OAuth error that the provider named, or that the library itself said no.
const refused = async (promise) => {
  try {
    await promise;
    return "accepted";
  } catch (error) {
    if (error instanceof client.ResponseBodyError) return error.error;
    if (error instanceof client.AuthorizationResponseError) return `redirect ${error.error}`;
    if (error instanceof client.WWWAuthenticateChallengeError) return `challenge ${error.status}`;
    if (error instanceof client.ClientError || error instanceof TypeError) return "refused by the client";
    throw error;
  }
};

const begin = async (config, one, more = {}) => {
  const verifier = client.randomPKCECodeVerifier();
  const asked = {
    redirect_uri: one.redirect_uri,
    scope: "openid profile",
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state: client.randomState(),
    nonce: client.randomNonce(),
    ...more,
  };
  for (const name of Object.keys(asked)) if (asked[name] === undefined) delete asked[name];
  return { verifier, asked, url: client.buildAuthorizationUrl(config, asked) };
};
const checks = ({ verifier, asked }) => ({
  pkceCodeVerifier: verifier,
  expectedState: asked.state,
  expectedNonce: asked.nonce,
  idTokenExpected: true,
});
const somebody = () => new Browser(issuer, login, password);
const flow = async (config, one, more, browser = somebody()) => {
  const begun = await begin(config, one, more);
  const end = await browser.go(begun.url);
  if (!end.url) throw new Error(`a page with status ${end.status}: ${end.body.slice(0, 300)}`);
  return { ...begun, callback: end.url, browser };
};
const whole = async (config, one, more) => {
  const done = await flow(config, one, more);
  return { ...done, tokens: await client.authorizationCodeGrant(config, done.callback, checks(done)) };
};
const ending = (end) => {
  if (!end.url) return `page ${end.status}`;
  const fragment = new URLSearchParams(end.url.hash.slice(1)); // where errors of implicit flows go
  return `redirect ${end.url.searchParams.get("error") ?? fragment.get("error") ?? "code"}`;
};

const config = await configuration(app);
const theirs = await configuration(other);
const open = await configuration(publicApp);
signed.key = await keyOf(signed);
const proving = await configuration(signed);

await check("1 discovery", async () => {
  const said = config.serverMetadata();
  const fine =
    said.issuer === issuer &&
    said.response_types_supported.includes("code") &&
    said.code_challenge_methods_supported.includes("S256") &&
    said.authorization_response_iss_parameter_supported === true;
  return fine ? "ok" : "differs";
});
await check("2 code, PKCE, nonce, ES256 ID token", async () => {
  const { tokens, asked } = await whole(config, app);
  const head = JSON.parse(Buffer.from(tokens.id_token.split(".")[0], "base64url"));
  const claims = tokens.claims();
  return head.alg === "ES256" && claims.nonce === asked.nonce && claims.aud === app.client_id ? "ok" : "differs";
});
await check("2 the same for a public client", async () => ((await whole(open, publicApp)).tokens.id_token ? "ok" : "none"));
await check("2 the same for a client that signs", async () => ((await whole(proving, signed)).tokens.id_token ? "ok" : "none"));
await check("a signature of another key", async () => {
  const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]);
  const wrong = await configuration({ ...signed, key: pair.privateKey });
  return refused(client.refreshTokenGrant(wrong, "x"));
});
await check("3 userinfo is of the same subject", async () => {
  const { tokens } = await whole(config, app);
  const said = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub);
  return said.name ? "ok" : "no name";
});
await check("3 userinfo of another subject", async () => {
  const { tokens } = await whole(config, app);
  return refused(client.fetchUserInfo(config, tokens.access_token, "somebody else"));
});
for (const [kind, cfg, one] of [["", config, app], [" of a public client", open, publicApp]]) {
  let first, second;
  await check(`4 refresh rotates${kind}`, async () => {
    first = (await whole(cfg, one)).tokens;
    second = await client.refreshTokenGrant(cfg, first.refresh_token);
    return second.refresh_token && second.refresh_token !== first.refresh_token ? "ok" : "same";
  });
  await check(`5 the old refresh token${kind}`, () => refused(client.refreshTokenGrant(cfg, first.refresh_token)));
  await check(`6 the whole family${kind}`, () => refused(client.refreshTokenGrant(cfg, second.refresh_token)));
  await check(`6 and its access token${kind}`, () =>
    refused(client.fetchUserInfo(cfg, second.access_token, client.skipSubjectCheck)));
}
await check("7 code replay", async () => {
  const done = await whole(config, app);
  return refused(client.authorizationCodeGrant(config, done.callback, checks(done)));
});
await check("7 and what came of it", async () => {
  const done = await whole(config, app);
  await refused(client.authorizationCodeGrant(config, done.callback, checks(done)));
  return refused(client.refreshTokenGrant(config, done.tokens.refresh_token));
});
await check("8 wrong verifier", async () => {
  const done = await flow(config, app);
  const wrong = { ...checks(done), pkceCodeVerifier: client.randomPKCECodeVerifier() };
  return refused(client.authorizationCodeGrant(config, done.callback, wrong));
});
await check("9 wrong issuer in the response (mix-up)", async () => {
  const done = await flow(config, app);
  done.callback.searchParams.set("iss", "https://evil.example");
  return refused(client.authorizationCodeGrant(config, done.callback, checks(done)));
});
await check("9 no issuer in the response", async () => {
  const done = await flow(config, app);
  done.callback.searchParams.delete("iss");
  return refused(client.authorizationCodeGrant(config, done.callback, checks(done)));
});
await check("10 wrong state", async () => {
  const done = await flow(config, app);
  return refused(client.authorizationCodeGrant(config, done.callback, { ...checks(done), expectedState: "another" }));
});
await check("10 wrong nonce", async () => {
  const done = await flow(config, app);
  return refused(client.authorizationCodeGrant(config, done.callback, { ...checks(done), expectedNonce: "another" }));
});
for (const [name, more] of [
  ["11 plain challenge", { code_challenge_method: "plain" }],
  ["11 no challenge", { code_challenge: undefined, code_challenge_method: undefined }],
  ["11 a challenge that is none", { code_challenge: "short" }],
  ["11 implicit token", { response_type: "token" }],
  ["11 implicit ID token", { response_type: "id_token" }],
  ["11 hybrid", { response_type: "code id_token" }],
  ["11 prompt none with others", { prompt: "none login" }],
  ["11 prompt none without a login", { prompt: "none" }],
  ["11 a request object", { request: "e30.e30." }],
  ["11 a bad max_age", { max_age: "-1" }],
]) {
  await check(name, async () => {
    const { url } = await begin(config, app, more);
    return ending(await somebody().go(url));
  });
}
for (const [name, uri] of [
  ["prefix", (u) => `${u}/evil`],
  ["parent", (u) => `${u}/../evil`],
  ["encoded parent", (u) => `${u}%2f..%2fevil`],
  ["query", (u) => `${u}?x=1`],
  ["fragment", (u) => `${u}#x`],
  ["user", (u) => u.replace("://", "://user@")],
  ["other host behind an at sign", (u) => u.replace("://", "://evil.example@")],
  ["subdomain", (u) => u.replace("://", "://x.")],
  ["upper case", (u) => u.toUpperCase()],
  ["another", () => "https://evil.example/cb"],
]) {
  await check(`12 redirect address: ${name}`, async () => {
    const { url } = await begin(config, app, { redirect_uri: uri(app.redirect_uri) });
    return ending(await somebody().go(url));
  });
}
await check("12 an unknown client", async () => {
  const { url } = await begin(config, app, { client_id: "1" });
  return ending(await somebody().go(url));
});

await check("the code of another client", async () => {
  const done = await flow(config, app);
  return refused(client.authorizationCodeGrant(theirs, done.callback, checks(done)));
});
await check("the refresh token of another client", async () => {
  const { tokens } = await whole(config, app);
  return refused(client.refreshTokenGrant(theirs, tokens.refresh_token));
});
await check("another address at the token endpoint", async () => {
  const done = await flow(config, app);
  done.callback.pathname += "/other";
  return refused(client.authorizationCodeGrant(config, done.callback, checks(done)));
});
await check("a wrong secret", async () => {
  const wrong = await configuration({ ...app, client_secret: "wrong".repeat(8) });
  return refused(client.refreshTokenGrant(wrong, "x"));
});
await check("a secret where there should be none", async () => {
  const wrong = await configuration({ ...publicApp, client_secret: "wrong".repeat(8) });
  return refused(client.refreshTokenGrant(wrong, "x"));
});
await check("no secret where there should be one", async () => {
  const wrong = await configuration({ ...app, client_secret: undefined });
  return refused(client.refreshTokenGrant(wrong, "x"));
});
await check("an unknown grant type", () => refused(client.genericGrantRequest(config, "password", { username: "a", password: "b" })));
await check("client credentials that were not registered", () => refused(client.clientCredentialsGrant(config)));
if (given.ent) {
  await check("client credentials in an enterprise", async () => {
    const tokens = await client.clientCredentialsGrant(proving, { ent: given.ent });
    const answer = await client.fetchProtectedResource(
      proving,
      tokens.access_token,
      new URL("/v1/gateway.identity.list_members", issuer),
      "POST",
      "{}",
      new Headers({ "content-type": "application/json" }),
    );
    return answer.status === 200 && !tokens.refresh_token ? "ok" : `${answer.status}`;
  });
  await check("client credentials in another enterprise", () =>
    refused(client.clientCredentialsGrant(proving, { ent: "12345" })));
  await check("an action by a person's token", async () => {
    const { tokens } = await whole(config, app, { scope: "openid contacts:read" });
    const call = (name) =>
      client.fetchProtectedResource(
        config,
        tokens.access_token,
        new URL(`/v1/${name}`, issuer),
        "POST",
        "{}",
        new Headers({ "content-type": "application/json" }),
      );
    const allowed = await call("gateway.identity.list_members");
    const [beyond, outcome] = [await call("gateway.identity.me"), allowed.status];
    return `${outcome} ${beyond.status}`;
  });
  await check("introspection by who is no resource server", async () => {
    const { tokens } = await whole(config, app);
    return refused(client.tokenIntrospection(config, tokens.access_token));
  });
}
await check("more scopes than were granted", async () => {
  const { tokens } = await whole(config, app, { scope: "openid" });
  return refused(client.refreshTokenGrant(config, tokens.refresh_token, { scope: "openid profile" }));
});
await check("revoke the refresh token", async () => {
  const { tokens } = await whole(config, app);
  await client.tokenRevocation(config, tokens.refresh_token);
  return refused(client.refreshTokenGrant(config, tokens.refresh_token));
});
await check("revoke what is no token", () => refused(client.tokenRevocation(config, "nothing")));
await check("revoke the token of another client", async () => {
  const { tokens } = await whole(config, app);
  await refused(client.tokenRevocation(theirs, tokens.refresh_token));
  return refused(client.refreshTokenGrant(config, tokens.refresh_token));
});
await check("silent sign-in once agreed", async () => {
  const { browser } = await flow(config, app);
  const { url } = await begin(config, app, { prompt: "none" });
  return ending(await browser.go(url));
});
await check("the person says no", async () => {
  const { url } = await begin(config, app, { prompt: "consent" });
  const browser = somebody();
  browser.agrees = false;
  return ending(await browser.go(url));
});
await check("pushed request", async () => {
  const begun = await begin(config, app);
  const url = await client.buildAuthorizationUrlWithPAR(config, begun.asked);
  const end = await somebody().go(url);
  const tokens = await client.authorizationCodeGrant(config, end.url, checks(begun));
  return tokens.id_token ? "ok" : "none";
});
await check("pushed request, used twice", async () => {
  const begun = await begin(config, app);
  const url = await client.buildAuthorizationUrlWithPAR(config, begun.asked);
  await somebody().go(url);
  return ending(await somebody().go(url));
});
await check("pushed request of another client", async () => {
  const begun = await begin(config, app);
  const url = await client.buildAuthorizationUrlWithPAR(config, begun.asked);
  url.searchParams.set("client_id", other.client_id);
  const end = await somebody().go(url);
  return end.url?.searchParams.has("code") ? "accepted" : "refused";
});
await check("pushed request with another address", async () => {
  const begun = await begin(config, app, { redirect_uri: "https://evil.example/cb" });
  return refused(client.buildAuthorizationUrlWithPAR(config, begun.asked));
});
await check("DPoP", async () => {
  const handle = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
  const begun = await flow(config, app);
  const tokens = await client.authorizationCodeGrant(config, begun.callback, checks(begun), undefined, { DPoP: handle });
  const said = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP: handle });
  const bare = await refused(client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub));
  const again = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP: handle });
  return `${tokens.token_type} ${said.sub ? "ok" : "none"}, as a bearer token: ${bare}, ${again.token_type}`;
});
await check("DPoP: a refresh token of a public client with another key", async () => {
  const mine = client.getDPoPHandle(open, await client.randomDPoPKeyPair("ES256"));
  const thiefs = client.getDPoPHandle(open, await client.randomDPoPKeyPair("ES256"));
  const begun = await flow(open, publicApp);
  const tokens = await client.authorizationCodeGrant(open, begun.callback, checks(begun), undefined, { DPoP: mine });
  const stolen = await refused(client.refreshTokenGrant(open, tokens.refresh_token, undefined, { DPoP: thiefs }));
  const bare = await refused(client.refreshTokenGrant(open, tokens.refresh_token));
  return `${stolen}, without: ${bare}`;
});
await check("logout with a hint", async () => {
  const { tokens, browser } = await whole(config, app);
  const url = client.buildEndSessionUrl(config, {
    id_token_hint: tokens.id_token,
    post_logout_redirect_uri: app.logout_uri,
    state: "s",
  });
  const end = await browser.go(url);
  if (end.url?.searchParams.get("state") !== "s") return `page ${end.status}`;
  const silent = await begin(config, app, { prompt: "none" });
  return ending(await browser.go(silent.url));
});
await check("logout to another address", async () => {
  const { tokens, browser } = await whole(config, app);
  const url = client.buildEndSessionUrl(config, {
    id_token_hint: tokens.id_token,
    post_logout_redirect_uri: "https://evil.example/bye",
  });
  return ending(await browser.go(url));
});

console.log(JSON.stringify(outcomes));
