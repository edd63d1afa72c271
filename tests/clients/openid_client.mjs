// npm's openid-client: discovery, client_credentials by secret and private_key_jwt, authorization_code with PKCE,
// refresh_token, token exchange, introspection, revocation. And oauth4webapi's own validation of our JWT access tokens.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as client from 'openid-client';
import * as oauth from 'oauth4webapi';

const setting = JSON.parse(readFileSync(process.argv[2]));
const issuer = new URL(setting.issuer);
const options = { algorithm: 'oauth2', execute: [client.allowInsecureRequests] };
const discover = (id, secret, authentication) => client.discovery(issuer, id, secret, authentication, options);

async function check(token) {
  const server = await oauth
    .discoveryRequest(issuer, { algorithm: 'oauth2', [oauth.allowInsecureRequests]: true })
    .then((answer) => oauth.processDiscoveryResponse(issuer, answer));
  const request = new Request(new URL('/v1/me', issuer), { headers: { authorization: `Bearer ${token}` } });
  const claims = await oauth.validateJwtAccessToken(server, request, setting.issuer, { [oauth.allowInsecureRequests]: true });
  const me = await fetch(request);
  assert.equal(me.status, 200);
  assert.equal((await me.json()).subject, claims.sub);
  return claims;
}

const machine = await discover(setting.machine.client_id, setting.machine.client_secret);
let tokens = await client.clientCredentialsGrant(machine, { scope: 'semantic:read' });
await check(tokens.access_token);
assert.equal((await client.tokenIntrospection(machine, tokens.access_token)).active, true);
await client.tokenRevocation(machine, tokens.access_token);
assert.equal((await client.tokenIntrospection(machine, tokens.access_token)).active, false);
console.log('openid-client: discovery, client_credentials, introspection, revocation');

const pem = createPrivateKey(readFileSync(setting.signer.private_key)).export({ format: 'der', type: 'pkcs8' });
const key = await crypto.subtle.importKey('pkcs8', pem, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']);
const signer = await discover(setting.signer.client_id, undefined, client.PrivateKeyJwt(key));
await check((await client.clientCredentialsGrant(signer, { scope: 'semantic:read' })).access_token);
console.log('openid-client: private_key_jwt');

const app = await discover(setting.app.client_id, undefined, client.None());
const verifier = client.randomPKCECodeVerifier();
const state = client.randomState();
const url = client.buildAuthorizationUrl(app, {
  redirect_uri: setting.app.redirect_uri,
  scope: 'semantic:read sql:run',
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  state,
});
// The person is Python's; see browser.py.
const person = `import sys; from browser import authorize; print(authorize(*sys.argv[1:5]))`;
const back = execFileSync(process.env.PYTHON, ['-c', person, url.href, setting.app.redirect_uri, setting.user.username,
  setting.user.password], { encoding: 'utf8', cwd: setting.scripts }).trim();
tokens = await client.authorizationCodeGrant(app, new URL(back), { pkceCodeVerifier: verifier, expectedState: state });
const user = await check(tokens.access_token);
assert.equal(user.sub, setting.user.user_id);
console.log('openid-client: authorization_code with PKCE and iss');

const refreshed = await client.refreshTokenGrant(app, tokens.refresh_token);
assert.notEqual(refreshed.refresh_token, tokens.refresh_token);
await check(refreshed.access_token);
console.log('openid-client: refresh_token');

const agent = await discover(setting.agent.client_id, setting.agent.client_secret);
const exchanged = await client.genericGrantRequest(agent, 'urn:ietf:params:oauth:grant-type:token-exchange', {
  subject_token: refreshed.access_token,
  subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
  scope: 'semantic:read',
});
const delegated = await check(exchanged.access_token);
assert.deepEqual([delegated.sub, delegated.act.sub], [user.sub, setting.agent.client_id]);
console.log('openid-client: token exchange');

await assert.rejects(client.refreshTokenGrant(app, tokens.refresh_token), { error: 'invalid_grant' });
await assert.rejects(client.refreshTokenGrant(app, refreshed.refresh_token), { error: 'invalid_grant' });
const dead = await fetch(new URL('/v1/me', issuer), { headers: { authorization: `Bearer ${refreshed.access_token}` } });
assert.equal(dead.status, 401);
console.log('openid-client: a refresh token used twice kills its family');
