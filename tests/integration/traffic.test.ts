// SPDX-License-Identifier: Apache-2.0

/** The counters that other tests rely on are themselves tested: on a wire that works, and on one that is cut. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Traffic, type Place, type TrafficCommand, type TrafficOptions } from '../traffic/traffic.ts';

const root = process.getuid?.() === 0;
const skip = root ? false : 'needs root for network namespaces';
const [A, B] = [`traffic-a-${process.pid}`, `traffic-b-${process.pid}`];
const client = { netns: A };
const server = { netns: B };
const SERVER_ADDRESSES = ['10.99.0.2', 'fd99::2'];

/** Starts a sub-command that ends with the test at the latest. */
async function start<C extends TrafficCommand>(t: TestContext, place: Place, command: C, options?: TrafficOptions) {
  const traffic = await Traffic.start(place, command, options);
  t.after(() => traffic.stop().catch(() => undefined));
  return traffic;
}

function ip(...words: string[]): void {
  execFileSync('ip', words);
}

before(() => {
  if (!root) return;
  ip('netns', 'add', A);
  ip('netns', 'add', B);
  ip('-n', A, 'link', 'add', 'wire', 'type', 'veth', 'peer', 'name', 'wire', 'netns', B);
  for (const [name, host] of [
    [A, 1],
    [B, 2],
  ] as const) {
    ip('netns', 'exec', name, 'sysctl', '-qw', 'net.ipv6.conf.wire.keep_addr_on_down=1');
    ip('-n', name, 'link', 'set', 'lo', 'up');
    ip('-n', name, 'link', 'set', 'wire', 'up');
    ip('-n', name, 'addr', 'add', `10.99.0.${host}/24`, 'dev', 'wire');
    ip('-n', name, 'addr', 'add', `fd99::${host}/64`, 'dev', 'wire', 'nodad');
  }
});

after(() => {
  if (!root) return;
  ip('netns', 'del', A);
  ip('netns', 'del', B);
});

test('privileged: TCP clients report rates and no failure on a wire that works', { skip }, async (t) => {
  const listening = await start(t, server, 'server');
  for (const addr of SERVER_ADDRESSES) {
    const rr = await Traffic.run(client, 'rr', { addr, duration: 0.2 });
    assert.ok(rr.count > 0 && rr.p50Ns > 0 && rr.p50Ns <= rr.p99Ns, addr);
    const crr = await Traffic.run(client, 'crr', { addr, duration: 0.2, rate: 200, stallMs: 1000 });
    assert.ok(crr.count > 0, addr);
    assert.deepEqual([crr.failed, crr.slow, crr.retransmits], [0, 0, 0], addr);
    const stream = await Traffic.run(client, 'stream', { addr, duration: 0.2 });
    assert.ok(stream.bytes > 0 && stream.cpuNsPerByte > 0, addr);
    const checked = await Traffic.run(client, 'tcp-stream', { addr, duration: 0.2, size: 100, stallMs: 1000 });
    assert.equal(checked.bytesBack, checked.bytesSent, addr);
    assert.equal(checked.bytesSent, checked.records * 100, addr);
    assert.deepEqual([checked.bytesWrong, checked.stalls, checked.broken], [0, 0, false], addr);
  }
  const { broken } = await listening.stop();
  assert.equal(broken, 0);
});

test('privileged: every datagram of a wire that works is counted once', { skip }, async (t) => {
  const receiver = await start(t, server, 'udp-recv', { port: 7002 });
  const sent = await Traffic.run(client, 'udp-send', { addr: 'fd99::2', port: 7002, rate: 5000, duration: 0.3 });
  const received = await receiver.stop();
  assert.ok(sent.sent > 0);
  assert.equal(received.received, sent.sent);
  assert.deepEqual([received.missing, received.duplicates, received.reordered, received.gaps], [0, 0, 0, 0]);
});

test('privileged: a cut wire is noticed by the datagram counter, the stream and the connector', { skip }, async (t) => {
  const listening = await start(t, server, 'server');
  const receiver = await start(t, server, 'udp-recv', { port: 7002 });
  const sender = await start(t, client, 'udp-send', { addr: '10.99.0.2', port: 7002, rate: 2000 });
  const stream = await start(t, client, 'tcp-stream', { addr: '10.99.0.2', stallMs: 100 });
  const connector = await start(t, client, 'crr', { addr: '10.99.0.2', rate: 200, stallMs: 100 });
  await delay(300);
  ip('-n', B, 'link', 'set', 'wire', 'down');
  await delay(300);
  ip('-n', B, 'link', 'set', 'wire', 'up');
  await delay(2500); // a connection that lost its SYN needs more than a second
  const [{ sent }, stalled, slow] = await Promise.all([sender.stop(), stream.stop(), connector.stop()]);
  const received = await receiver.stop();
  await listening.stop();
  assert.ok(received.gaps >= 1 && received.missing > 0, JSON.stringify(received));
  assert.ok(received.received < sent);
  assert.equal(received.socketDrops, 0);
  assert.ok(stalled.stalls >= 1, JSON.stringify(stalled));
  assert.equal(stalled.bytesBack, stalled.bytesSent);
  assert.ok(slow.slow + slow.failed >= 1 && slow.retransmits >= 1, JSON.stringify(slow));
});

test('privileged: the prober sees packets that get through, and none when they are dropped', { skip }, async (t) => {
  const listening = await start(t, server, 'server', { port: 7003 });
  const open = await Traffic.run(client, 'probe', { addr: '10.99.0.2', port: 7003, udpPort: 7004, duration: 0.5 });
  const { accepted } = await listening.stop();
  assert.ok(open.connected > 0 && accepted > 0, JSON.stringify({ open, accepted }));
  assert.ok(open.refused > 0, 'nobody listens on the UDP port, so ICMP comes back');
  const refused = await Traffic.run(client, 'probe', { addr: 'fd99::2', port: 7003, udpPort: 7004, duration: 0.5 });
  assert.ok(refused.through > 0, 'a refusal by the peer means that the SYN got through');
  ip('-n', A, 'neigh', 'replace', '10.99.0.9', 'lladdr', '02:00:00:00:00:09', 'dev', 'wire');
  const dropped = await Traffic.run(client, 'probe', { addr: '10.99.0.9', port: 7003, udpPort: 7004, duration: 0.5 });
  assert.ok(dropped.syns > 0 && dropped.datagrams > 0);
  assert.deepEqual([dropped.through, dropped.unreachable, dropped.errors], [0, 0, 0]);
});

test('privileged: a client that reaches nobody fails with the reason', { skip }, async () => {
  await assert.rejects(Traffic.run(client, 'rr', { addr: '10.99.0.2', port: 7999, duration: 0.1 }), /refused/);
});
