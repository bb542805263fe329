// A certified OpenID provider on loopback, with two clients that log in with a secret and get
// access tokens that are JWTs (RFC 9068) for the audience `pullgate`.
//
// node oidc-provider.mjs FOLDER PORT, where FOLDER is where npm has put the package.
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const [folder, port] = process.argv.slice(2);
const entry = join(folder, 'node_modules', 'oidc-provider', 'lib', 'index.js');
const { default: Provider } = await import(pathToFileURL(entry));

const client = (name) => ({
  client_id: name,
  client_secret: `secret-of-${name}`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [client('team-a'), client('team-b')],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:pullgate',
      getResourceServerInfo: () => ({
        scope: '',
        audience: 'pullgate',
        accessTokenTTL: 600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
provider.listen(Number(port), '127.0.0.1');
