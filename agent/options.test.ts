// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadOptions } from '../runtime/config.ts';
import { AGENT_OPTIONS, helpText } from './options.ts';

for (const [flag, expected] of [
  ['--ipv4-range=10.300.0.0/16', 'an IPv4 range such as 10.15.0.0/16, of length at most /28, found 10.300.0.0/16'],
  ['--ipv6-range=10.0.0.0/16', 'an IPv6 range such as fd15::/64, of length at most /112, found 10.0.0.0/16'],
  ['--cluster-pool-ipv4-cidr=all', 'an IPv4 range such as 10.15.0.0/16, of length at most /28, found all'],
  ['--ipv4-node=fd00::1', 'an IPv4 address, or auto, found fd00::1'],
  ['--kvstore=consul', 'embedded or etcd, found consul'],
  ['--routing-mode=vxlan', 'tunnel or native, found vxlan'],
  ['--log-level=loud', 'error, warn, info or debug, found loud'],
  ['--tunnel-port=99999', 'a number from 1 to 65535, found 99999'],
  ['--node-name=a/b', 'a host name: letters, digits, dots and dashes, found a/b'],
  ['--cluster-name=', '1 to 32 lower-case letters, digits and dashes, found nothing'],
  ['--config=agent.conf', 'an absolute path, found agent.conf'],
] as const) {
  test(`${flag} is refused with what was expected and found`, () => {
    const message = `${flag.split('=', 1)[0]!}: expected ${expected}`;
    assert.throws(() => loadOptions(AGENT_OPTIONS, { argv: [flag] }), { code: 'InvalidArgument', message });
  });
}

test('the help lists the values of options that have some', () => {
  const help = helpText();
  assert.match(help, /--log-level\n.*\n +Values: error, warn, info, debug\. Default: info\./);
  assert.match(help, /--tunnel-port\n.*\n +Values: 1 to 65535\. Default: 8472 UDP\./);
  assert.match(help, /--network-label\n.*\n +Values: true, false\. Default: false\./);
  assert.match(help, /--state-dir\n.*\n +Default: \/var\/lib\/cilium\./);
});
