// SPDX-License-Identifier: Apache-2.0

/** The datapath as a whole on the running kernel, with the real objects: start, adopt, replace, follow, report, let go. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { Datapath, type DatapathOptions } from '../../datapath/datapath.ts';
import { decodeEvent, type DatapathEvent } from '../../datapath/events/records.ts';
import { summarizePacket } from '../../datapath/events/packet.ts';
import { BpfProgram, attachedProgramId, TC_EGRESS, TC_INGRESS } from '../../datapath/ffi/bpf-program.ts';
import { openHandles } from '../../datapath/ffi/handle.ts';
import { MAP_NAMES } from '../../datapath/loader/map-set.ts';
import { readSysctl } from '../../datapath/loader/sysctl.ts';
import { IpAddress, Prefix } from '../../net/ip.ts';
import { MacAddress } from '../../net/mac.ts';
import { type LogFields, type Logger, silentLogger } from '../../runtime/logger.ts';
import { inNamespace, run } from '../bpf/support/namespace.ts';
import { eventually } from './datapath-support.ts';

const OBJECT_DIR = fileURLToPath(new URL('../../bpf-src/build', import.meta.url));
const SIGNAL = new AbortController().signal;
const mac = (last: number): MacAddress => new MacAddress(Uint8Array.of(2, 0, 0, 0, 0, last));
const CONTAINER = {
  hostName: 'lxcdp1',
  peerName: 'tmpdp1',
  hostMac: mac(1),
  peerMac: mac(2),
  mtu: 1500,
};

inNamespace(fileURLToPath(import.meta.url), () => {
  const folder = mkdtempSync(join(tmpdir(), 'cilium-datapath-'));
  run('mount', '-t', 'bpf', 'bpf', folder);
  run('ip', 'link', 'set', 'lo', 'up');
  after(() => {
    run('umount', folder);
    rmSync(folder, { recursive: true });
    assert.deepEqual(openHandles(), {});
  });
  testStart(folder);
  testRefusals(folder);
  testDevices(folder);
  testEvents(folder);
});

function datapathOn(bpfRoot: string, rest: Partial<DatapathOptions> = {}): Datapath {
  return new Datapath({ bpfRoot, objectDir: OBJECT_DIR, aggregation: 'none', mtu: 1500, log: silentLogger, ...rest });
}

async function withDatapath(datapath: Datapath, body: () => Promise<void> | void): Promise<void> {
  await datapath.start(SIGNAL);
  try {
    await body();
  } finally {
    await datapath.stop();
  }
}

function mapIds(bpfRoot: string): Map<string, number> {
  const ids = MAP_NAMES.map((name) => {
    const shown = run('bpftool', '-j', 'map', 'show', 'pinned', `${bpfRoot}/tc/globals/${name}`);
    return [name, (JSON.parse(shown) as { id: number }).id] as const;
  });
  return new Map(ids);
}

function testStart(bpfRoot: string): void {
  const endpoint = {
    ifindex: 7,
    identity: 300,
    policySlot: 1,
    id: 9,
    mtu: 1500,
    mac: mac(2),
    hostMac: mac(1),
    internal: false,
    host: false,
  };
  const address = IpAddress.parse('10.15.0.2');

  test('privileged: the first start makes devices, maps and programs, and stop leaves them all', async () => {
    const datapath = datapathOn(bpfRoot);
    let host = 0;
    let container = 0;
    await withDatapath(datapath, () => {
      host = datapath.links.getLink('cilium_net')!.ifindex;
      assert.equal(datapath.links.getLink('cilium_host')?.ifindex, datapath.hostIfindex);
      container = datapath.links.createVeth(CONTAINER).hostIfindex;
      datapath.endpoints.update(address, endpoint);
      datapath.ipcache.update(Prefix.parse('0.0.0.0/0'), { identity: 2 });
      const memory = datapath.describeMaps().reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
      assert.ok(memory > 0 && memory <= 64 * 1024 * 1024, `${memory} bytes of maps`);
    });
    assert.notEqual(attachedProgramId(host, TC_INGRESS), undefined);
    assert.notEqual(attachedProgramId(container, TC_INGRESS), undefined);
    assert.notEqual(attachedProgramId(container, TC_EGRESS), undefined);
    const pinned = new Set(readdirSync(`${bpfRoot}/tc/globals`));
    for (const name of MAP_NAMES) assert.ok(pinned.has(name), name);
    const programs = ['cil_from_container', 'cil_from_host', 'cil_from_netdev', 'cil_to_container'];
    assert.deepEqual(readdirSync(`${bpfRoot}/cilium/programs`).sort(), programs);
    assert.equal(readSysctl('net/ipv4/conf/cilium_host/rp_filter'), '0');
    assert.match(run('ip', 'link', 'show', 'cilium_host'), /NOARP,UP/);
    await datapath.stop();
  });

  test('privileged: the next start adopts the maps with their entries, and the programs as well', async () => {
    const before = mapIds(bpfRoot);
    const container = Number(/^(\d+):/.exec(run('ip', '-o', 'link', 'show', CONTAINER.hostName))?.[1]);
    const program = attachedProgramId(container, TC_INGRESS);
    const datapath = datapathOn(bpfRoot);
    await withDatapath(datapath, () => {
      assert.deepEqual(mapIds(bpfRoot), before);
      assert.equal(attachedProgramId(container, TC_INGRESS), program);
      assert.equal(datapath.endpoints.get(address)?.identity, 300);
    });
  });

  test('privileged: a start with other settings replaces the programs in place and keeps the maps', async () => {
    const before = mapIds(bpfRoot);
    const datapath = datapathOn(bpfRoot, { aggregation: 'medium' });
    const container = Number(/^(\d+):/.exec(run('ip', '-o', 'link', 'show', CONTAINER.hostName))?.[1]);
    const oldProgram = attachedProgramId(container, TC_INGRESS);
    await withDatapath(datapath, () => {
      assert.deepEqual(mapIds(bpfRoot), before);
      assert.notEqual(attachedProgramId(container, TC_INGRESS), oldProgram);
      assert.equal(datapath.endpoints.get(address)?.identity, 300);
      assert.equal(datapath.endpoints.entries().length, 1);
      assert.deepEqual(
        datapath.ipcache.entries().map(({ prefix }) => prefix.toString()),
        ['0.0.0.0/0'],
      );
    });
    const filters = run('tc', 'filter', 'show', 'dev', CONTAINER.hostName, 'ingress');
    assert.equal(filters.match(/direct-action/g)?.length, 1, filters);
  });

  test('privileged: a map of another size is replaced, said so, and the others are kept', async () => {
    const before = mapIds(bpfRoot);
    const warnings: LogFields[] = [];
    const log: Logger = { ...silentLogger, warn: (_message, fields = {}) => void warnings.push(fields) };
    const datapath = datapathOn(bpfRoot, { mapSizes: { cilium_lxc: 1000 }, log });
    await withDatapath(datapath, () => {
      const changed = [...mapIds(bpfRoot)].filter(([name, id]) => before.get(name) !== id).map(([name]) => name);
      assert.deepEqual(changed, ['cilium_lxc']);
      assert.deepEqual(datapath.endpoints.entries(), []);
    });
    assert.deepEqual(warnings, [{ map: 'cilium_lxc', reason: 'maxEntries is 65535, 1000 is wanted' }]);
    await withDatapath(datapathOn(bpfRoot), () => undefined);
  });

  test('privileged: what belongs to a running datapath cannot be had from a stopped one', async () => {
    const datapath = datapathOn(bpfRoot);
    assert.throws(
      () => datapath.endpoints,
      (error) => isCiliumError(error, 'Internal'),
    );
    await datapath.stop();
    await withDatapath(datapath, async () => {
      await assert.rejects(datapath.start(SIGNAL), (error) => isCiliumError(error, 'Internal'));
    });
    assert.throws(
      () => datapath.policy,
      (error) => isCiliumError(error, 'Internal'),
    );
  });
}

function testRefusals(bpfRoot: string): void {
  async function refusal(datapath: Datapath): Promise<string> {
    const handles = openHandles();
    try {
      await datapath.start(SIGNAL);
    } catch (error) {
      assert.ok(isCiliumError(error), String(error));
      assert.deepEqual(openHandles(), handles, 'a start that fails leaves no handle open');
      return error.message;
    }
    await datapath.stop();
    throw new Error('it started');
  }

  test('privileged: a start that cannot succeed says in one line what to do', async () => {
    assert.match(
      await refusal(datapathOn('/tmp')),
      /^\/tmp is not a BPF file system; mount one: mount -t bpf bpf \/tmp$/,
    );
    const unbuilt = await refusal(datapathOn(bpfRoot, { objectDir: '/does/not/exist' }));
    assert.equal(unbuilt, 'cannot read /does/not/exist/bpf_lxc.o; build it with "make build"');
  });

  test('privileged: a device of that name that is not ours is not taken over', async () => {
    run('ip', 'link', 'delete', 'cilium_host');
    run('ip', 'link', 'add', 'cilium_host', 'type', 'bridge');
    const message = await refusal(datapathOn(bpfRoot));
    assert.equal(message, 'device cilium_host is not ours; delete it: ip link delete cilium_host');
    run('ip', 'link', 'delete', 'cilium_host');
  });
}

function testDevices(bpfRoot: string): void {
  test('privileged: devices to the outside are followed while their addresses come and go', async () => {
    run('ip', 'link', 'add', 'dpwire0', 'type', 'veth', 'peer', 'name', 'dpwire1');
    run('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'dpwire0');
    const datapath = datapathOn(bpfRoot);
    const records = (): string[] =>
      datapath.devices
        .entries()
        .map(({ ifindex, info }) => `${ifindex} ${info.ipv4?.toString()} ${info.ipv6?.toString()}`);
    await withDatapath(datapath, async () => {
      const { ifindex } = datapath.links.getLink('dpwire0')!;
      assert.deepEqual(records(), [`${ifindex} 192.0.2.1 undefined`]);
      assert.notEqual(attachedProgramId(ifindex, TC_INGRESS), undefined);
      run('ip', '-6', 'address', 'add', '2001:db8::1/64', 'dev', 'dpwire0', 'nodad');
      await eventually(() => assert.deepEqual(records(), [`${ifindex} 192.0.2.1 2001:db8::1`]));
      run('ip', 'address', 'flush', 'dev', 'dpwire0');
      await eventually(() => assert.deepEqual(records(), []));
      assert.equal(attachedProgramId(ifindex, TC_INGRESS), undefined);
    });
    run('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'dpwire0');
    await withDatapath(datapath, () => assert.equal(records().length, 1));
    run('ip', 'link', 'delete', 'dpwire0');
    await withDatapath(datapath, () => assert.deepEqual(records(), [], 'a device that died meanwhile is forgotten'));
  });
}

function testEvents(bpfRoot: string): void {
  /** From an address that no endpoint has, so it is dropped: 10.99.0.1:33772 -> 10.99.0.2:80 tcp SYN. */
  const PACKET = Buffer.from(
    '02000000000102000000000208004500002800010000400600000a6300010a630002' +
      '83ec0050000000000000000050020000' +
      '00000000',
    'hex',
  );

  function sendPackets(count: number): void {
    const program = BpfProgram.openPinned('test', `${bpfRoot}/cilium/programs/cil_from_container`)!;
    for (let i = 0; i < count; i++) program.testRun({ packet: PACKET });
    program.close();
  }

  test('privileged: events are delivered from the moment of asking, in order, and decode to what was sent', async () => {
    const datapath = datapathOn(bpfRoot, { eventsBytes: 64 * 1024 });
    await withDatapath(datapath, async () => {
      const events: (DatapathEvent & { summary: string })[] = [];
      sendPackets(3);
      datapath.events.start((records) => {
        for (const record of records) {
          const event = decodeEvent(record)!;
          events.push({ ...event, payload: new Uint8Array(0), summary: summarizePacket(event.payload) });
        }
      });
      assert.throws(
        () => datapath.events.start(() => undefined),
        (error) => isCiliumError(error, 'Internal'),
      );
      sendPackets(2);
      await eventually(() => assert.equal(events.filter(({ type }) => type === 'drop').length, 2));
      for (const event of events) assert.equal(event.summary, '10.99.0.1:33772 -> 10.99.0.2:80 tcp SYN');
      assert.ok(events.every((event, i) => i === 0 || event.timestamp >= events[i - 1]!.timestamp));
      // More than the ring holds, with looks in between: it wraps and nothing is lost.
      for (let i = 0; i < 20; i++) {
        sendPackets(100);
        datapath.events.drain();
      }
      assert.equal(events.filter(({ type }) => type === 'drop').length, 2002);
      assert.equal(datapath.metrics.eventsLost(), 0);
      datapath.events.stop();
      datapath.events.stop();
    });
  });

  test('privileged: events that the ring cannot hold are counted, and so are drops nobody watches', async () => {
    const datapath = datapathOn(bpfRoot, { eventsBytes: 64 * 1024 });
    await withDatapath(datapath, () => {
      const dropped = (): number =>
        datapath.metrics.entries().reduce((sum, { reason, packets }) => sum + (reason >= 128 ? packets : 0), 0);
      const before = dropped();
      sendPackets(2000);
      assert.equal(dropped() - before, 2000);
      assert.ok(datapath.metrics.eventsLost() > 0);
    });
    await withDatapath(datapathOn(bpfRoot), () => undefined);
  });
}
