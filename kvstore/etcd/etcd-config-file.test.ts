// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { parseConfigFile } from './etcd-config-file.ts';

test('a file with all that can be said, in YAML or JSON', () => {
  const yaml = `---
endpoints:
- https://10.0.0.1:2379
- https://10.0.0.2:2379
trusted-ca-file: '/etc/etcd/ca.crt'
cert-file: /etc/etcd/client.crt
key-file: "/etc/etcd/client.key"
username: node
password: secret
namespace: test/
`;
  const expected = {
    endpoints: ['https://10.0.0.1:2379', 'https://10.0.0.2:2379'],
    trustedCaFile: '/etc/etcd/ca.crt',
    certFile: '/etc/etcd/client.crt',
    keyFile: '/etc/etcd/client.key',
    username: 'node',
    password: 'secret',
    namespace: 'test/',
  };
  assert.deepEqual(parseConfigFile('/f', yaml), expected);
  assert.deepEqual(parseConfigFile('/f', '{"endpoints": ["http://a:1"]}'), { endpoints: ['http://a:1'] });
});

test('the name that older files have for the authority', () => {
  const config = parseConfigFile('/f', 'endpoints: ["https://a"]\nca-file: /ca');
  assert.deepEqual(config, { endpoints: ['https://a'], trustedCaFile: '/ca' });
});

for (const [name, text, expected] of [
  ['no YAML', 'endpoints: [', /etcd\.config \/f is not YAML/],
  ['nothing', '', /\/f: /],
  ['no endpoints', 'username: a', /endpoints/],
  ['an unknown key', 'endpoints: []\ntrusted-ca: /x', /trusted-ca/],
  ['a relative path', 'endpoints: []\nkey-file: x', /key-file.*absolute path/],
] as const) {
  test(`a file with ${name} is refused with its name and the field`, () => {
    assert.throws(
      () => parseConfigFile('/f', text),
      (error) => isCiliumError(error, 'InvalidArgument') && expected.test(error.message),
    );
  });
}
