// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IpAddress } from '../../net/ip.ts';
import { connectionKeyText, connectionText, portText, snatKeyText, snatText } from './flow-text.ts';

const V4 = IpAddress.parse('10.11.0.23');
const V6 = IpAddress.parse('fd00::23');

const ports: [bits: number, protocol: number, port: number, text: string][] = [
  [0, 0, 0, 'ANY'],
  [8, 17, 0, 'UDP'],
  [24, 6, 80, '80/TCP'],
  [14, 6, 1024, '1024-2047/TCP'],
  [9, 17, 32_768, '32768-65535/UDP'],
  [24, 58, 128, '128/ICMPv6'],
  [8, 47, 0, '47'],
];
for (const [bits, protocol, port, text] of ports) {
  test(`${bits} bits of protocol ${protocol} and port ${port} are ${text}`, () => {
    assert.equal(portText({ identity: 1, egress: false, bits, protocol, port }), text);
  });
}

test('a connection is shown from the container: what it sends is Tx', () => {
  const connection = {
    protocol: 6,
    initiator: V4,
    initiatorPort: 51_034,
    responder: IpAddress.parse('10.11.0.40'),
    responderPort: 80,
    expires: 88_213,
    flags: 1 | 2 | 8 | 16,
    proxyPort: 0,
    initiatorIdentity: 41_022,
    initiatorReport: 601,
    responderReport: 602,
    initiatorTcpFlags: 0x1b,
    responderTcpFlags: 0x12,
  };
  assert.equal(connectionKeyText(connection), 'TCP OUT 10.11.0.23:51034 -> 10.11.0.40:80');
  assert.equal(
    connectionText(connection),
    'expires=88213 RxFlagsSeen=0x12 LastRxReport=602 TxFlagsSeen=0x1b LastTxReport=601 ' +
      'Flags=0x001b [ InitiatorClosing SeenNonSyn InitiatorLocal ] SourceSecurityID=41022 ProxyPort=0',
  );
  assert.match(connectionText(connection, 88_200), /^expires=88213 \(remaining: 13s\) /);
  const inbound = { ...connection, flags: 32, protocol: 17, initiator: V6, responder: V6 };
  assert.equal(connectionKeyText(inbound), 'UDP IN [fd00::23]:51034 -> [fd00::23]:80');
  assert.match(connectionText(inbound), /RxFlagsSeen=0x1b .*TxFlagsSeen=0x12 .*\[ ResponderLocal \]/);
});

test('a masqueraded flow is shown with what it becomes', () => {
  const forward = {
    direction: 0,
    protocol: 17,
    source: V4,
    sourcePort: 40_000,
    destination: IpAddress.parse('192.0.2.1'),
    destinationPort: 53,
    to: IpAddress.parse('192.0.2.9'),
    toPort: 61_000,
    created: 100,
  };
  assert.equal(snatKeyText(forward), 'UDP OUT 10.11.0.23:40000 -> 192.0.2.1:53');
  assert.equal(snatText(forward, 112), 'XLATE_SRC 192.0.2.9:61000 Created=12sec ago');
  const reply = { ...forward, direction: 1 };
  assert.match(`${snatKeyText(reply)} ${snatText(reply, 90)}`, /^UDP IN .* XLATE_DST .* Created=0sec ago$/);
});
