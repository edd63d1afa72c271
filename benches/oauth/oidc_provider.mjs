// The peer: npm's oidc-provider with its in-memory adapter, ES256 JWT access tokens (resource indicators) and introspection.
//
// PEER_WORKERS processes share one port. The adapter's memory belongs to one process, and JWT access tokens are not
// kept at all: so tokens are introspected in their opaque form, by one process, which is what this provider supports.
import cluster from 'node:cluster';
import { readFileSync } from 'node:fs';
import { createPrivateKey } from 'node:crypto';

const workers = Number(process.env.PEER_WORKERS ?? 1);
if (cluster.isPrimary && workers > 1) {
  for (let n = 0; n < workers; n += 1) cluster.fork();
} else {
  const { default: Provider } = await import('oidc-provider');
  const issuer = process.env.PEER_ISSUER;
  const format = process.env.PEER_FORMAT ?? 'jwt';
  const jwk = createPrivateKey(readFileSync(process.env.PEER_KEY)).export({ format: 'jwk' });
  const provider = new Provider(issuer, {
    jwks: { keys: [{ ...jwk, kid: 'bench', alg: 'ES256', use: 'sig' }] },
    clients: [{
      client_id: process.env.PEER_CLIENT_ID,
      client_secret: process.env.PEER_CLIENT_SECRET,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: 'client_secret_basic',
      id_token_signed_response_alg: 'ES256',
    }],
    scopes: ['semantic:read'],
    ttl: { ClientCredentials: 3600 },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => issuer,
        getResourceServerInfo: () => ({
          scope: 'semantic:read',
          audience: issuer,
          accessTokenTTL: 3600,
          accessTokenFormat: format,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  });
  provider.listen(Number(process.env.PEER_PORT), '127.0.0.1');
}
