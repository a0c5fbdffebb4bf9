// SPDX-License-Identifier: Apache-2.0

/**
 * One of the nodes of tunnel.test.ts, in a network namespace of its own: a datapath, a container with a server that says
 * how much it was sent and by whom, and what an agent would tell them of the other node. Obeys lines on its standard input.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Datapath } from '../../datapath/datapath.ts';
import { HOST_ENDPOINT } from '../../datapath/maps/endpoint-map.ts';
import type { PolicyEntry } from '../../datapath/maps/policy-map.ts';
import { IpAddress, type IpFamily, Prefix } from '../../net/ip.ts';
import { MacAddress } from '../../net/mac.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { run } from '../bpf/support/namespace.ts';
import { addressesOf, IDENTITIES, type NodeSpec, type NodeStatus } from './tunnel-nodes.ts';

const BPF_ROOT = '/sys/fs/bpf';
const MTU = 1500;
const HOST = 1;
const REMOTE_NODE = 6;
const FAMILIES: readonly IpFamily[] = [4, 6];
const SERVER = `
  require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
    let bytes = 0;
    socket.on('data', (part) => (bytes += part.length)).on('error', () => {});
    socket.on('end', () => socket.end(bytes + ' ' + socket.remoteAddress.replace('::ffff:', '')));
  }).listen(80, '::');`;

const spec = JSON.parse(process.argv[2]!) as NodeSpec;
const own = addressesOf(spec.number);
const other = addressesOf(3 - spec.number);
const parse = (text: string): IpAddress => IpAddress.parse(text);
const single = (text: string): Prefix => Prefix.of(parse(text));
const allowAll = (egress: boolean, identity = 0): PolicyEntry => ({
  ...{ identity, egress, protocol: 0, port: 0, bits: 0 },
  ...{ deny: false, proxyPort: 0, precedence: 0xffffff01, cookie: 0 },
});

function prepareNamespace(): void {
  run('mount', '-t', 'sysfs', 'sysfs', '/sys');
  run('mount', '-t', 'bpf', 'bpf', BPF_ROOT);
  run('ip', 'link', 'set', 'lo', 'up');
  for (const family of FAMILIES) {
    const length = family === 4 ? 24 : 64;
    run('ip', 'address', 'add', `${own.node[family]}/${length}`, 'dev', 'wire', ...(family === 6 ? ['nodad'] : []));
  }
  run('ip', 'link', 'set', 'wire', 'up');
  run('sysctl', '-qw', 'net.ipv4.conf.wire.forwarding=1', 'net.ipv6.conf.wire.forwarding=1');
}

/** The routes that an agent would set: to the other node's containers through the tunnel, or to the node. */
function addRoutes(datapath: Datapath, hostIfindex: number): void {
  const wire = datapath.links.getLink('wire')!.ifindex;
  for (const family of FAMILIES) {
    datapath.links.addAddress(hostIfindex, parse(own.router[family]));
    const source = parse(own.router[family]);
    datapath.links.addRoute({ prefix: Prefix.parse(own.range[family]), ifindex: hostIfindex, source });
    const remote = Prefix.parse(other.range[family]);
    if (spec.tunnel) datapath.links.addRoute({ prefix: remote, ifindex: hostIfindex, source });
    else datapath.links.addRoute({ prefix: remote, ifindex: wire, gateway: parse(other.node[family]), source });
  }
}

function tellKernel(datapath: Datapath): void {
  const { endpoints, identities, ipcache } = datapath;
  if (spec.underlay === 4) datapath.tunnelSource.set(parse(own.node[4]));
  const tunnelEndpoint = parse(other.node[spec.underlay]);
  for (const family of FAMILIES) {
    ipcache.update(Prefix.parse(family === 4 ? '0.0.0.0/0' : '::/0'), { identity: family === 4 ? 9 : 10 });
    for (const address of [own.node, own.router]) {
      endpoints.update(parse(address[family]), HOST_ENDPOINT);
      ipcache.update(single(address[family]), { identity: HOST });
    }
    ipcache.update(single(own.container[family]), { identity: IDENTITIES[spec.number]! });
    identities.set(IDENTITIES[3 - spec.number]!, true);
    ipcache.update(single(other.container[family]), { identity: IDENTITIES[3 - spec.number]!, tunnelEndpoint });
    ipcache.update(single(other.router[family]), { identity: REMOTE_NODE, tunnelEndpoint });
    ipcache.update(single(other.node[family]), { identity: REMOTE_NODE });
  }
}

/** The process id of the container's server. */
async function addContainer(datapath: Datapath, slot: number): Promise<number> {
  const [hostMac, mac] = [2, 1].map((last) => new MacAddress(Uint8Array.of(2, 0, 0, 0, spec.number, last)));
  const names = { hostName: 'lxc1', peerName: 'tmp1', hostMac: hostMac!, peerMac: mac! };
  const { hostIfindex } = datapath.links.createVeth({ ...names, mtu: MTU });
  const server = spawn('unshare', ['--net', process.execPath, '-e', SERVER], { stdio: 'ignore' });
  await once(server, 'spawn');
  await inOtherNamespace(server.pid!);
  const inside = (...command: string[]): string => run('nsenter', `--net=/proc/${server.pid!}/ns/net`, ...command);
  run('ip', 'link', 'set', 'tmp1', 'netns', String(server.pid));
  inside('ip', 'link', 'set', 'tmp1', 'name', 'eth0');
  inside('ip', 'link', 'set', 'lo', 'up');
  inside('ip', 'link', 'set', 'eth0', 'up');
  for (const family of FAMILIES) {
    const address = own.container[family];
    const nodad = family === 6 ? ['nodad'] : [];
    inside('ip', 'address', 'add', `${address}/${family === 4 ? 32 : 128}`, 'dev', 'eth0', ...nodad);
    inside('ip', `-${family}`, 'route', 'add', 'default', 'dev', 'eth0');
    const info = { ifindex: hostIfindex, identity: IDENTITIES[spec.number]!, policySlot: slot, id: 1 };
    datapath.endpoints.update(parse(address), {
      ...info,
      mtu: MTU,
      mac: mac!,
      hostMac: hostMac!,
      ...{ internal: false, host: false },
    });
  }
  process.on('exit', () => server.kill('SIGKILL'));
  return server.pid!;
}

async function inOtherNamespace(pid: number): Promise<void> {
  const mine = run('readlink', '/proc/self/ns/net');
  while (run('readlink', `/proc/${pid}/ns/net`) === mine) await new Promise((resolve) => setTimeout(resolve, 5));
}

const lines = createInterface(process.stdin)[Symbol.asyncIterator]();
const say = (status: NodeStatus): void => void process.stdout.write(`${JSON.stringify(status)}\n`);
say({});
await lines.next(); // the wire is here
prepareNamespace();
const datapath = new Datapath({
  bpfRoot: BPF_ROOT,
  objectDir: fileURLToPath(new URL('../../bpf-src/build', import.meta.url)),
  aggregation: 'medium',
  mtu: MTU,
  log: silentLogger,
  routerAddresses: { 4: parse(own.router[4]), 6: parse(own.router[6]) },
  ...(spec.tunnel && { tunnel: { mtu: MTU } }),
});
await datapath.start(new AbortController().signal);
datapath.policy.adopt([]);
await datapath.policy.prepare(1);
const slot = datapath.policy.acquire();
let ingress = allowAll(false);
datapath.policy.apply(slot, { upserts: [ingress, allowAll(true)], deletes: [] });
tellKernel(datapath);
addRoutes(datapath, datapath.hostIfindex);
say({ container: await addContainer(datapath, slot) });
for await (const line of lines) {
  const command = JSON.parse(line) as { from?: number };
  if (command.from !== undefined) {
    const next = allowAll(false, command.from);
    datapath.policy.apply(slot, { upserts: [next], deletes: [ingress] });
    ingress = next;
  }
  const drops = datapath.metrics.entries().filter(({ reason }) => reason >= 128);
  say({ drops: Object.fromEntries(drops.map(({ reason, packets }) => [reason, packets])) });
}
await datapath.stop();
process.exit(0);
