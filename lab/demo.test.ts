// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDrops, dropTable, parseDrop } from './demo-drops.ts';
import { allowedByPolicy, everybody, probeScript, reachTable, readProbes, type App, type Probe } from './demo-reach.ts';

const app = (number: number): App => ({
  name: `app${number}`,
  ipv4: `10.0.0.${number}`,
  ipv6: `fd00::${number}`,
  identity: 1000 + number,
});
const APPS = [app(1), app(2), app(3)];

/** All probes, answered as `answer` says. */
function probes(answer: (probe: Omit<Probe, 'reached'>) => boolean): Probe[] {
  return APPS.flatMap((from) => readProbes(from, APPS, '').map((probe) => ({ ...probe, reached: answer(probe) })));
}

test('each container asks each other one on each port and family', () => {
  const script = probeScript(APPS[0]!, APPS);
  for (const host of ['10.0.0.2', '[fd00::3]']) assert.ok(script.includes(`http://${host}:8080/`), host);
  assert.ok(!script.includes('10.0.0.1:'), 'not itself');
});

test('only the name of the one that was asked counts as an answer', () => {
  const said = 'http://10.0.0.2:80/ app2\nhttp://10.0.0.3:80/ app2\nhttp://10.0.0.2:8080/ ';
  const reached = readProbes(APPS[0]!, APPS, said).filter((probe) => probe.reached);
  assert.deepEqual(
    reached.map(({ to, family, port }) => [to.name, family, port]),
    [['app2', 'IPv4', 80]],
  );
});

test('a table is good when every cell is as expected, and marks the one that is not', () => {
  assert.ok(reachTable(probes(everybody), everybody).good);
  assert.ok(reachTable(probes(allowedByPolicy), allowedByPolicy).good);
  assert.ok(!reachTable(probes(everybody), allowedByPolicy).good, 'a policy that is not enforced');
  assert.ok(!reachTable([], everybody).good, 'nothing was asked');
  const oneLost = probes((probe) => probe.family === 'IPv4' || probe.from.name !== 'app1' || probe.to.name !== 'app2');
  const { text, good } = reachTable(oneLost, everybody);
  assert.ok(!good);
  assert.match(text, /app1 +app2 +yes +yes +- WRONG +- WRONG/);
});

const line = (from: number, identities: string, port: number): string =>
  `xx drop (Policy denied) flow 0xbef01fce to endpoint 3862, ifindex 22, file bpf_lxc.c:2381, , identity ${identities}: 10.0.0.${from}:34934 -> 10.0.0.1:${port} tcp SYN`;

test('drops are read from the monitor, both families, connection attempts only', () => {
  assert.deepEqual(parseDrop(line(3, '1003->1001', 80)), {
    reason: 'Policy denied',
    fromIdentity: '1003',
    toIdentity: '1001',
    source: '10.0.0.3',
    destination: '10.0.0.1',
    port: 80,
  });
  const ipv6 = line(3, '1003->1001', 80).replace('10.0.0.3:', '[fd00::3]:').replace('10.0.0.1:', '[fd00::1]:');
  assert.deepEqual([parseDrop(ipv6)?.source, parseDrop(ipv6)?.destination], ['fd00::3', 'fd00::1']);
  assert.equal(parseDrop('Press Ctrl-C to quit'), undefined);
  assert.equal(
    parseDrop('xx drop (Policy denied) flow 0x0 , identity 1->2: fd15::1 -> fd15::2 icmp EchoRequest'),
    undefined,
  );
});

test('a refused attempt without its drop is missed, a wrong identity or an unrefused attempt is wrong', () => {
  const refused = probes(allowedByPolicy).filter(
    (probe) => !allowedByPolicy(probe) && probe.family === 'IPv4' && probe.from.name === 'app3' && probe.port === 80,
  );
  const check = (text: string): { missing: string[]; wrong: string[] } => checkDrops([parseDrop(text)!], refused, APPS);
  assert.deepEqual(check(line(3, '1003->1001', 80)), { missing: [], wrong: [] });
  assert.equal(check(line(3, 'init->1001', 80)).wrong.length, 1);
  assert.deepEqual(
    [check(line(2, '1002->1001', 80)).missing.length, check(line(2, '1002->1001', 80)).wrong.length],
    [1, 1],
  );
});

test('a repeated drop is one row', () => {
  const drop = parseDrop(line(3, '1003->1001', 80))!;
  assert.equal(dropTable([drop, { ...drop }], APPS).split('\n').length, 2);
});
