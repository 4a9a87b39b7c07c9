// The flows by npm oauth4webapi, which checks every answer against its standard and forgives nothing.
// Prints {check: outcome}.

import * as oauth from "oauth4webapi";
import { Browser } from "./browser.mjs";

const given = JSON.parse(process.argv[2]);
const http = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(given.issuer);
const outcomes = {};

const check = async (name, run) => {
  try {
    outcomes[name] = await run();
  } catch (error) {
    outcomes[name] = error.error ?? `failed: ${error.name}: ${error.message} ${JSON.stringify(error.cause ?? "")}`;
  }
};

let as;
for (const algorithm of ["oidc", "oauth2"]) {
  await check(`discovery, ${algorithm}`, async () => {
    as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { ...http, algorithm }));
    return "ok";
  });
}

const flow = async (one, { browser, par = false, bound = false, agrees = true, maxAge, ...more } = {}) => {
  const client = { client_id: one.client_id, require_auth_time: true, id_token_signed_response_alg: "ES256" };
  const curve = { name: "ECDSA", namedCurve: "P-256" };
  const auth = one.jwk
    ? oauth.PrivateKeyJwt(await crypto.subtle.importKey("jwk", one.jwk, curve, false, ["sign"]))
    : one.client_secret
      ? oauth.ClientSecretBasic(one.client_secret)
      : oauth.None();
  const DPoP = bound ? oauth.DPoP(client, await oauth.generateKeyPair("ES256")) : undefined;
  const options = { ...http, DPoP };
  const verifier = oauth.generateRandomCodeVerifier();
  const [nonce, state] = [oauth.generateRandomNonce(), oauth.generateRandomState()];
  const request = new URLSearchParams({
    client_id: client.client_id,
    redirect_uri: one.redirect_uri,
    response_type: "code",
    scope: "openid profile contacts:read",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    nonce,
    ...more,
  });
  const start = new URL(as.authorization_endpoint);
  start.search = request;
  if (par) {
    const pushed = await oauth.pushedAuthorizationRequest(as, client, auth, request, options);
    const { request_uri } = await oauth.processPushedAuthorizationResponse(as, client, pushed);
    start.search = new URLSearchParams({ client_id: client.client_id, request_uri });
  }
  browser.agrees = agrees;
  const { url } = await browser.go(start);
  const answered = oauth.validateAuthResponse(as, client, url, state);
  const exchange = await oauth.authorizationCodeGrantRequest(
    as, client, auth, answered, one.redirect_uri, verifier, options,
  );
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, exchange, {
    expectedNonce: nonce,
    requireIdToken: true,
    ...(maxAge === undefined ? {} : { maxAge }),
  });
  await oauth.validateApplicationLevelSignature(as, exchange, http);
  const claims = oauth.getValidatedIdTokenClaims(tokens);
  const who = await oauth.userInfoRequest(as, client, tokens.access_token, options);
  await oauth.processUserInfoResponse(as, client, claims.sub, who);
  const renewal = await oauth.refreshTokenGrantRequest(as, client, auth, tokens.refresh_token, options);
  const renewed = await oauth.processRefreshTokenResponse(as, client, renewal);
  if (!bound) {  // RFC 9068, as a resource server would
    const call = new Request(`${given.issuer}/v1/x`, { headers: { authorization: `Bearer ${renewed.access_token}` } });
    await oauth.validateJwtAccessToken(as, call, `${given.issuer}/v1`, http);
  }
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, renewed.refresh_token, http));
  return `ok ${tokens.token_type} acr ${claims.acr}`;
};

for (const name of ["app", "signed", "publicApp"]) {
  const browser = new Browser(given.issuer, given.login, given.password);
  const run = (what, options) => check(`${name}: ${what}`, () => flow(given[name], { browser, ...options }));
  await run("code", {});
  await run("pushed", { par: true });
  await run("bound", { bound: true });
  await run("pushed and bound", { par: true, bound: true });
  await run("silent", { prompt: "none" });
  await run("asked again", { prompt: "consent" });
  await run("logged in again", { prompt: "login", max_age: "60", maxAge: 60 });
  await run("silent and not", { prompt: "none login" });
  await run("denied", { prompt: "consent", agrees: false });
}

console.log(JSON.stringify(outcomes));
