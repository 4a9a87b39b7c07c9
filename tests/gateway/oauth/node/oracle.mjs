// Another provider (npm oidc-provider), set up as ours is: what it answers is what we compare with.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const clients = JSON.parse(process.argv[2]);
const jwk = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" });
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: clients.map((one) => ({
      client_id: one.client_id,
      client_secret: one.client_secret ?? undefined,
      token_endpoint_auth_method: one.auth_method,
      token_endpoint_auth_signing_alg: one.jwk ? "ES256" : undefined,
      jwks: one.jwk ? { keys: [Object.fromEntries(Object.entries(one.jwk).filter(([name]) => name !== "d"))] } : undefined,
      redirect_uris: [one.redirect_uri],
      post_logout_redirect_uris: [one.logout_uri],
      response_types: ["code"],
      grant_types: ["authorization_code", "refresh_token"],
      id_token_signed_response_alg: "ES256",
    })),
    jwks: { keys: [{ ...jwk, use: "sig", alg: "ES256" }] },
    cookies: { keys: [randomBytes(16).toString("hex")] },
    pkce: { required: () => true },
    scopes: ["openid", "profile"],
    claims: { openid: ["sub"], profile: ["name"] },
    findAccount: async (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id, name: id }) }),
    issueRefreshToken: async () => true,
    rotateRefreshToken: () => true,
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      dPoP: { enabled: true },
      pushedAuthorizationRequests: { enabled: true },
      revocation: { enabled: true },
      rpInitiatedLogout: { enabled: true },
    },
  });
  provider.on("server_error", (ctx, error) => console.error(error));
  server.on("request", provider.callback());
  console.log(JSON.stringify({ issuer }));
});
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
