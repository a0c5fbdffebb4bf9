// SPDX-License-Identifier: Apache-2.0

/**
 * Root in a container, with raw frames: what it may not say reaches nobody.
 *
 * `attacker` may reach `victim` and `third` at UDP port 7000, and `victim` at TCP port 80. After the frames of a test it
 * sends a datagram that may pass, on the same way and from the same CPU: what has not come by then does not come.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { WORLD } from '../../lab/addresses.ts';
import {
  arp,
  ETH,
  ETHERTYPE,
  ethernet,
  icmp,
  icmpError,
  neighbourSolicit,
  packet,
  raw,
  TCP,
  tcp,
  udp,
  type Ends,
  type IpOptions,
  type Transport,
} from '../bpf/support/packet.ts';
import { Frames } from '../support/frames.ts';
import { DockerNode } from './docker-node.ts';
import { labForTests } from './support.ts';

const TAG = Buffer.from('said by an adversary');
/** Where a container's frames go is of no importance: the programs look at the addresses. */
const ROUTER_MAC = '02:00:00:00:00:01';
const OPEN_UDP = 7000;
const OPEN_TCP = 80;
const CLOSED = 22;
const SPORT = 40000;

const lab = labForTests();
const node = new DockerNode(lab);

interface Peer {
  readonly frames: Frames;
  readonly pid: number;
  readonly mac: string;
  readonly 4: string;
  readonly 6: string;
}

const peers = new Map<string, Peer>();
const extra: Frames[] = [];
let sent = 0;

function peer(name: string): Peer {
  return peers.get(name)!;
}

async function run(name: string): Promise<void> {
  await node.container(name, 'net1');
  const { mac, ipv4, ipv6 } = await node.inside(name);
  const pid = Number(await node.inspect('{{.State.Pid}}', name));
  const bare = (address?: string): string => address!.replace(/\/.*/, '');
  peers.set(name, { frames: await Frames.open(pid), pid, mac, 4: bare(ipv4[0]), 6: bare(ipv6[0]) });
}

/** Containers and rules, once the lab is up. */
async function setUp(): Promise<void> {
  await node.network('net1', '--ipam-driver', 'cilium');
  for (const name of ['attacker', 'victim', 'third']) await run(name);
  const from = (id: string, port: number, protocol: string): object => ({
    fromEndpoints: [{ matchLabels: { id } }],
    toPorts: [{ ports: [{ port: String(port), protocol }] }],
  });
  const rules = [
    {
      endpointSelector: { matchLabels: { id: 'victim' } },
      ingress: [from('attacker', OPEN_UDP, 'UDP'), from('attacker', OPEN_TCP, 'TCP')],
    },
    {
      endpointSelector: { matchLabels: { id: 'third' } },
      ingress: [from('attacker', OPEN_UDP, 'UDP'), from('victim', OPEN_TCP, 'TCP')],
    },
  ];
  const file = join(node.lab.machine.dir, 'rules.json');
  writeFileSync(file, JSON.stringify(rules));
  await node.lab.cilium(['policy', 'import', file]);
}

let ready: Promise<void> | undefined;

function attack(name: string, work: () => Promise<void>): void {
  test(`privileged: ${name}`, async () => {
    await (ready ??= setUp());
    await work();
  });
}

after(() => {
  for (const { frames } of peers.values()) frames.close();
  for (const frames of extra) frames.close();
});

type Family = 4 | 6;
const FAMILIES: readonly Family[] = [4, 6];

/** From attacker to victim, unless said otherwise. */
function ends(family: Family, change: Partial<Ends> = {}): Ends {
  const [attacker, victim] = [peer('attacker'), peer('victim')];
  return { srcMac: attacker.mac, dstMac: ROUTER_MAC, src: attacker[family], dst: victim[family], ...change };
}

function say(family: Family, transport: Transport, options: IpOptions = {}, change: Partial<Ends> = {}): Buffer {
  return packet(ends(family, change), transport, options);
}

const openUdp = (): Transport => udp(SPORT, OPEN_UDP, TAG);

/** Sends the frames and answers those that the peer got, by what is in them. */
async function passed(packets: readonly Buffer[], to = 'victim'): Promise<Buffer[]> {
  const [{ frames: out, mac }, { frames: seen, 4: dst }] = [peer('attacker'), peer(to)];
  const marker = Buffer.from(`number ${++sent}.`);
  seen.take();
  out.send(...packets, packet(ends(4, { dst }), udp(SPORT + 1, OPEN_UDP, marker)));
  await seen.until((frame) => frame.includes(marker));
  const own = Buffer.from(mac.replaceAll(':', ''), 'hex');
  return seen.take().filter((frame) => frame.includes(TAG) || frame.subarray(ETH).includes(own));
}

async function refused(cases: Readonly<Record<string, readonly Buffer[] | Buffer>>, to?: string): Promise<void> {
  for (const [name, packets] of Object.entries(cases)) {
    const got = await passed(Buffer.isBuffer(packets) ? [packets] : packets, to);
    assert.deepEqual(
      got.map((frame) => frame.toString('hex')),
      [],
      name,
    );
  }
}

/** What is sent, with `watch` on a device of the node or the outside: nothing of it is to be seen there. */
async function unseen(pid: number, device: string, cases: Readonly<Record<string, Buffer>>): Promise<void> {
  const watch = await Frames.open(pid, device);
  extra.push(watch);
  await refused(cases);
  // The way back up is another one: give what went there the time of a question and its answer.
  await node.docker('exec', 'attacker', 'ping', '-c', '1', '-W', '2', WORLD.ipv4);
  const seen = watch.take().filter((frame) => frame.includes(TAG));
  assert.deepEqual(
    seen.map((frame) => frame.toString('hex')),
    [],
    device,
  );
}

attack('what is allowed passes, raw or not', async () => {
  for (const family of FAMILIES) {
    assert.equal((await passed([say(family, openUdp())])).length, 1);
    assert.equal((await passed([say(family, tcp(SPORT, OPEN_TCP, TCP.syn, TAG))])).length, 1);
  }
});

attack('nobody speaks from an address or a MAC address that is not theirs', async () => {
  const host = node.lab.addresses;
  const sources = {
    4: [
      peer('third')[4],
      peer('victim')[4],
      host.ipv4,
      WORLD.ipv4,
      '10.16.200.200',
      '0.0.0.0',
      '127.0.0.1',
      '224.0.0.1',
    ],
    6: [peer('third')[6], peer('victim')[6], host.ipv6, WORLD.ipv6, 'fd15:1::dead', '::', '::1', 'fe80::1', 'ff02::1'],
  };
  for (const family of FAMILIES) {
    for (const src of sources[family]) await refused({ [`from ${src}`]: say(family, openUdp(), {}, { src }) });
    await refused({
      'MAC of another': say(family, openUdp(), {}, { srcMac: peer('third').mac }),
      'MAC of nobody': say(family, openUdp(), {}, { srcMac: '02:aa:bb:cc:dd:ee' }),
    });
  }
  const mapped = `::ffff:${peer('attacker')[4]}`;
  await refused({ 'IPv4 written as IPv6': say(6, openUdp(), {}, { src: mapped }) });
});

attack('nobody is told where another one is, by ARP or neighbour discovery', async () => {
  const { mac } = peer('attacker');
  const third = peer('third');
  const target = (address: string): Buffer =>
    Buffer.from(address.split(':').length > 2 ? neighbourBytes(address) : Buffer.alloc(0));
  const advert = icmp(6, 136, 0, Buffer.concat([Buffer.from([0xa0, 0, 0, 0]), target(third[6]), option(2, mac)]));
  const router = icmp(6, 134, 0, Buffer.concat([Buffer.from([64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]), option(1, mac)]));
  const redirect = icmp(
    6,
    137,
    0,
    Buffer.concat([Buffer.alloc(4), target(peer('attacker')[6]), target(third[6]), option(2, mac)]),
  );
  const nd = { ttl: 255 };
  await refused({
    'ARP reply': arp({ operation: 2, srcMac: mac, sender: third[4], target: peer('victim')[4] }),
    'ARP announcement': arp({ srcMac: mac, sender: third[4], target: third[4] }),
    'ARP request in the name of another': arp({ srcMac: mac, sender: third[4], target: peer('victim')[4] }),
    'ARP request': arp({ srcMac: mac, sender: peer('attacker')[4], target: peer('victim')[4] }),
    advertisement: say(6, advert, nd),
    'advertisement from the other': say(6, advert, nd, { src: third[6] }),
    'advertisement to all': say(6, advert, nd, { dst: 'ff02::1', dstMac: '33:33:00:00:00:01' }),
    'advertisement, link-local': say(6, advert, nd, { src: 'fe80::1' }),
    'router advertisement': say(6, router, nd, { src: 'fe80::1' }),
    'router advertisement to all': say(6, router, nd, { src: 'fe80::1', dst: 'ff02::1' }),
    redirect: say(6, redirect, nd),
    'redirect of the router': say(6, redirect, nd, { src: 'fe80::1' }),
    solicitation: say(6, neighbourSolicit(peer('victim')[6], mac), nd),
    'solicitation in the name of another': say(6, neighbourSolicit(peer('victim')[6], mac), nd, { src: third[6] }),
  });
});

attack('no flag, port or order of TCP opens what is closed', async () => {
  for (const family of FAMILIES) {
    const flags = { ...TCP, 'syn+ack': TCP.syn | TCP.ack, 'rst+ack': TCP.rst | TCP.ack, 'fin+ack': TCP.fin | TCP.ack };
    for (const [name, flag] of Object.entries({ ...flags, none: 0, all: 0x3f, 'syn+fin': TCP.syn | TCP.fin })) {
      for (const sport of [SPORT, OPEN_TCP, CLOSED]) {
        await refused({ [`${name} from ${sport}`]: say(family, tcp(sport, CLOSED, flag, TAG)) });
      }
    }
    // A live connection to the open port does not help its other end's ports.
    await passed([say(family, tcp(SPORT + 2, OPEN_TCP, TCP.syn))]);
    await refused({ 'beside a connection': say(family, tcp(SPORT + 2, CLOSED, TCP.ack, TAG)) });
    await refused({ 'to a closed UDP port': say(family, udp(OPEN_UDP, 53, TAG)) });
  }
  const unknown = [4, 41, 47, 50, 51, 89, 115, 132, 255];
  for (const protocol of unknown) {
    await refused({ [`protocol ${protocol}`]: say(4, raw(protocol, Buffer.concat([Buffer.alloc(8), TAG]))) });
    if (protocol !== 51)
      await refused({ [`protocol ${protocol}, IPv6`]: say(6, raw(protocol, Buffer.concat([Buffer.alloc(8), TAG]))) });
  }
  const inner = say(4, tcp(SPORT, CLOSED, TCP.syn, TAG)).subarray(ETH);
  await refused({ 'a packet in a packet': say(4, raw(4, inner)), 'and in IPv6': say(6, raw(4, inner)) });
});

attack('fragments do not smuggle another header in', async () => {
  for (const family of FAMILIES) {
    const open = tcp(SPORT, OPEN_TCP, TCP.ack, Buffer.concat([Buffer.alloc(24), TAG]));
    const closed = tcp(SPORT, CLOSED, TCP.syn, Buffer.concat([Buffer.alloc(24), TAG]));
    const part = (transport: Transport, id: number, from: number, to: number, more: boolean): Buffer =>
      say(family, transport, { fragment: { id, offset: from, more }, slice: [from, to] });
    const end = open.length;
    await refused({
      'no first fragment': part(open, 1, 24, end, false),
      'first fragment without a whole header': [part(open, 2, 0, 16, true), part(open, 2, 24, end, false)],
      'first fragment closed': [part(closed, 3, 0, 24, true), part(closed, 3, 24, end, false)],
      'flags written over': [part(open, 4, 0, 24, true), part(closed, 4, 8, end, false)],
    });
    // Both first fragments take the same place: only the open one gets through, whatever comes first.
    const mixed = await passed([
      part(open, 5, 0, 24, true),
      say(family, tcp(SPORT, CLOSED, TCP.syn, TAG), { fragment: { id: 5, offset: 0, more: true } }),
    ]);
    assert.deepEqual(mixed, []);
  }
  const tail = (next: number): Buffer =>
    say(6, raw(next, Buffer.concat([Buffer.alloc(8), TAG, Buffer.alloc(4)])), {
      fragment: { id: 6, offset: 8, more: false },
    });
  await refused({
    'another protocol in the later fragment': [
      say(6, tcp(SPORT, OPEN_TCP, TCP.ack, Buffer.alloc(4)), { fragment: { id: 6, offset: 0, more: true } }),
      tail(17),
      tail(0),
      tail(60),
    ],
  });
});

attack('extension headers hide nothing', async () => {
  const options = (bytes = 8): Buffer => {
    const header = Buffer.alloc(bytes);
    header[1] = bytes / 8 - 1;
    header[2] = 1; // PadN over the rest
    header[3] = bytes - 4;
    return header;
  };
  const routing = (type: number, left: number): Buffer => {
    const header = Buffer.alloc(24);
    header.set([0, 2, type, left]);
    header.set(neighbourBytes(peer('third')[6]), 8);
    return header;
  };
  const fragment = Buffer.alloc(8);
  const open = openUdp();
  const closed = udp(SPORT, 53, TAG);
  assert.equal(
    (
      await passed([
        say(6, open, {
          extensions: [
            [0, options()],
            [60, options(16)],
          ],
        }),
      ])
    ).length,
    1,
  );
  const chains: Record<string, (readonly [number, Buffer])[]> = {
    'hop-by-hop': [[0, options()]],
    'destination options': [[60, options()]],
    'atomic fragment': [[44, fragment]],
    'two atomic fragments': [
      [44, fragment],
      [44, fragment],
    ],
    'a routing header at its end': [[43, routing(0, 0)]],
    authentication: [[51, Buffer.alloc(8)]],
    'six headers': Array.from({ length: 6 }, () => [60, options()] as const),
  };
  for (const [name, extensions] of Object.entries(chains)) await refused({ [name]: say(6, closed, { extensions }) });
  await refused({
    'routing by way of the victim': say(6, open, { extensions: [[43, routing(0, 1)]] }),
    'segment routing': say(6, open, { extensions: [[43, routing(4, 1)]] }),
    'hop-by-hop behind another': say(6, open, {
      extensions: [
        [60, options()],
        [0, options()],
      ],
    }),
    'too many': say(6, open, { extensions: Array.from({ length: 7 }, () => [60, options()] as const) }),
    'longer than the packet': say(6, open, {
      extensions: [[60, Buffer.concat([Buffer.from([0, 255]), Buffer.alloc(6)])]],
    }),
  });
});

attack('IPv4 options do not route by way of another', async () => {
  const hop = Buffer.from(peer('third')[4].split('.').map(Number));
  for (const [name, type] of [
    ['loose', 131],
    ['strict', 137],
  ] as const) {
    const options = Buffer.concat([Buffer.from([type, 7, 4]), hop, Buffer.alloc(1)]);
    await refused({ [name]: say(4, openUdp(), { options }) });
    await refused({ [`${name}, at the third`]: say(4, openUdp(), { options }) }, 'third');
  }
});

attack('an ICMP error is heard about flows of its own sender only', async () => {
  for (const family of FAMILIES) {
    const [victim, third, attacker] = [peer('victim')[family], peer('third')[family], peer('attacker')[family]];
    const connected = await node.lab.run(['docker', 'exec', 'victim', 'nc', '-w', '1', third, String(OPEN_TCP)]);
    assert.equal(connected.status, 0);
    const back = { srcMac: ROUTER_MAC, dstMac: ROUTER_MAC, src: victim };
    const ofOthers = packet({ ...back, dst: third }, tcp(SPORT, OPEN_TCP, TCP.syn, TAG));
    const never = packet({ ...back, dst: attacker }, tcp(OPEN_TCP, 1, TCP.syn, TAG));
    for (const kind of ['unreachable', 'too-big', 'time-exceeded'] as const) {
      await refused({
        [`${kind}, flow of others`]: tagged(say(family, icmpError(family, kind, ofOthers, 1280))),
        [`${kind}, no such flow`]: tagged(say(family, icmpError(family, kind, never, 1280))),
        [`${kind}, from a stranger`]: tagged(say(family, icmpError(family, kind, ofOthers, 1280), {}, { src: third })),
      });
    }
  }
  const redirect = icmp(
    4,
    5,
    1,
    Buffer.concat([Buffer.from(peer('attacker')[4].split('.').map(Number)), TAG, Buffer.alloc(8)]),
  );
  await refused({ redirect: say(4, redirect) });
});

attack('only IP and ARP without tags are Ethernet here', async () => {
  const inner = say(4, openUdp()).subarray(12);
  const { mac } = peer('attacker');
  await refused({
    'VLAN tag': ethernet(ROUTER_MAC, mac, ETHERTYPE.vlan, Buffer.concat([Buffer.from([0, 5]), inner])),
    'priority tag': ethernet(ROUTER_MAC, mac, ETHERTYPE.vlan, Buffer.concat([Buffer.from([0, 0]), inner])),
    'provider tag': ethernet(ROUTER_MAC, mac, 0x88a8, Buffer.concat([Buffer.from([0, 5]), inner])),
    'two tags': ethernet(ROUTER_MAC, mac, 0x88a8, Buffer.concat([Buffer.from([0, 5, 0x81, 0, 0, 6]), inner])),
    MPLS: ethernet(ROUTER_MAC, mac, 0x8847, Buffer.concat([Buffer.from([0, 1, 1, 64]), inner.subarray(2)])),
    PPPoE: ethernet(
      ROUTER_MAC,
      mac,
      0x8864,
      Buffer.concat([Buffer.from([0x11, 0, 0, 1, 0, 60, 0, 0x21]), inner.subarray(2)]),
    ),
    LLC: ethernet(ROUTER_MAC, mac, 60, Buffer.concat([Buffer.from([0x42, 0x42, 3]), inner])),
    'spanning tree': ethernet('01:80:c2:00:00:00', mac, 60, Buffer.concat([Buffer.from([0x42, 0x42, 3]), TAG])),
    'IPv6 called IPv4': ethernet(ROUTER_MAC, mac, ETHERTYPE.ipv4, say(6, openUdp()).subarray(ETH)),
    'too short': ethernet(ROUTER_MAC, mac, ETHERTYPE.ipv4, TAG),
  });
});

attack('addresses that are not for sending reach neither the node nor the world', async () => {
  const addresses = {
    4: [
      '0.0.0.0',
      '127.0.0.1',
      '127.1.2.3',
      '224.0.0.1',
      '239.1.2.3',
      '240.0.0.1',
      '255.255.255.255',
      '192.168.251.255',
      '10.16.0.255',
    ],
    6: [
      '::',
      '::1',
      'ff02::1',
      'ff05::2',
      '::ffff:127.0.0.1',
      `::ffff:${node.lab.addresses.ipv4}`,
      '::127.0.0.1',
      'fe80::1',
    ],
  };
  const cases: Record<string, Buffer> = {};
  for (const family of FAMILIES) {
    for (const dst of addresses[family]) cases[`to ${dst}`] = say(family, openUdp(), {}, { dst });
  }
  await unseen(node.lab.machine.holder!, 'cilium_host', cases);
  await unseen(lab.outside.holder!, 'eth0', cases);
});

/** The tag at the end of an error, where no program looks. */
function tagged(frame: Buffer): Buffer {
  return frame.includes(TAG) ? frame : Buffer.concat([frame, TAG]);
}

function option(type: number, mac: string): Buffer {
  return Buffer.from(`0${type}01${mac.replaceAll(':', '')}`, 'hex');
}

function neighbourBytes(address: string): Buffer {
  return packet(
    { srcMac: ROUTER_MAC, dstMac: ROUTER_MAC, src: address, dst: address },
    raw(59, Buffer.alloc(0)),
  ).subarray(ETH + 8, ETH + 24);
}
