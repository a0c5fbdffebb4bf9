// SPDX-License-Identifier: Apache-2.0

/** cilium_vxlan through the datapath's life: made, adopted, replaced, removed, and never somebody else's. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isCiliumError } from '../../errors/cilium-error.ts';
import { Datapath, type DatapathOptions } from '../../datapath/datapath.ts';
import { attachedProgramId, TC_INGRESS } from '../../datapath/ffi/bpf-program.ts';
import { openHandles } from '../../datapath/ffi/handle.ts';
import type { Link } from '../../datapath/netlink/link.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { inNamespace, run } from '../bpf/support/namespace.ts';

const OBJECT_DIR = fileURLToPath(new URL('../../bpf-src/build', import.meta.url));
const EXTERNAL = { external: true, learning: false } as const;

inNamespace(fileURLToPath(import.meta.url), () => {
  const bpfRoot = mkdtempSync(join(tmpdir(), 'cilium-tunnel-'));
  run('mount', '-t', 'bpf', 'bpf', bpfRoot);
  run('ip', 'link', 'set', 'lo', 'up');
  after(() => {
    run('umount', bpfRoot);
    rmSync(bpfRoot, { recursive: true });
    assert.deepEqual(openHandles(), {});
  });

  /** What is there while a datapath with this tunnel runs. */
  async function started(tunnel?: DatapathOptions['tunnel']): Promise<{ link?: Link; program: number | undefined }> {
    const rest = { objectDir: OBJECT_DIR, aggregation: 'none', mtu: 1500, log: silentLogger } as const;
    const datapath = new Datapath({ bpfRoot, ...rest, ...(tunnel && { tunnel }) });
    await datapath.start(new AbortController().signal);
    try {
      const link = datapath.links.getLink('cilium_vxlan');
      return { ...(link && { link }), program: link && attachedProgramId(link.ifindex, TC_INGRESS) };
    } finally {
      await datapath.stop();
    }
  }

  test('privileged: the device is made, with its program, up, without addresses, and stays', async () => {
    const { link, program } = await started({ mtu: 1500 });
    assert.ok(link && program !== undefined);
    assert.deepEqual([link.kind, link.vxlan], ['vxlan', { port: 8472, ...EXTERNAL }]);
    assert.equal(link.mtu, 1450);
    const shown = run('ip', '-d', 'address', 'show', 'cilium_vxlan');
    assert.match(shown, /NOARP,UP/);
    assert.doesNotMatch(shown, /inet/);
  });

  test('privileged: the next start adopts device and program', async () => {
    const first = await started({ mtu: 1500 });
    const second = await started({ mtu: 1500 });
    assert.equal(second.link?.ifindex, first.link?.ifindex);
    assert.equal(second.program, first.program);
  });

  test('privileged: another MTU changes the device, another port or a device of another make replaces it', async () => {
    const first = await started({ mtu: 1500 });
    const jumbo = await started({ mtu: 9000 });
    assert.deepEqual([jumbo.link?.ifindex, jumbo.link?.mtu], [first.link?.ifindex, 8950]);
    const moved = await started({ mtu: 1500, port: 4789 });
    assert.equal(moved.link?.vxlan?.port, 4789);
    assert.notEqual(moved.link.ifindex, first.link?.ifindex);
    run('ip', 'link', 'delete', 'cilium_vxlan');
    run('ip', 'link', 'add', 'cilium_vxlan', 'type', 'vxlan', 'id', '7', 'dstport', '8472');
    const replaced = await started({ mtu: 1500 });
    assert.deepEqual(replaced.link?.vxlan, { port: 8472, ...EXTERNAL });
    assert.notEqual(replaced.program, undefined);
  });

  test('privileged: without tunnels device and program go, and their traces with them', async () => {
    const { link } = await started();
    assert.equal(link, undefined);
    assert.ok(!existsSync(`${bpfRoot}/cilium/programs/cil_from_overlay`));
    assert.deepEqual(
      readdirSync(`${bpfRoot}/cilium/loaded`).filter((name) => name.startsWith('bpf_overlay')),
      [],
    );
  });

  test('privileged: a device that is no VXLAN device is not ours, whatever its name', async () => {
    run('ip', 'link', 'add', 'cilium_vxlan', 'type', 'bridge');
    const isRefused = (error: unknown): boolean =>
      isCiliumError(error, 'Precondition') && error.message.includes('ip link delete cilium_vxlan');
    await assert.rejects(started({ mtu: 1500 }), isRefused);
    const { link } = await started();
    assert.equal(link?.kind, 'bridge');
    run('ip', 'link', 'delete', 'cilium_vxlan');
  });
});
