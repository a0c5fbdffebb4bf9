// SPDX-License-Identifier: Apache-2.0

/** Containers of two nodes reach each other through the real datapath: by VXLAN over either family, and by routes. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { IpFamily } from '../../net/ip.ts';
import { inNamespace, run } from '../bpf/support/namespace.ts';
import { addressesOf, IDENTITIES, type NodeSpec, type NodeStatus } from './tunnel-nodes.ts';

const FAMILIES: readonly IpFamily[] = [4, 6];
const REMOTE_NODE = 6;
const UNKNOWN_SENDER = 172;
const MEGABYTE = 1 << 20;

/** Sends so many bytes to a server of tunnel-node.ts and prints its answer, or what went wrong. */
const CLIENT = `
  const [host, bytes] = process.argv.slice(1);
  const socket = require('node:net').connect({ host, port: 80 }, () => socket.end(Buffer.alloc(Number(bytes), 120)));
  const give = (text) => { console.log(text); process.exit(0); };
  let answer = '';
  socket.on('data', (part) => (answer += part)).on('end', () => give(answer)).on('error', (error) => give(error.code));
  setTimeout(() => give('timeout'), Number(process.env.LIMIT_MS));`;

class TestNode {
  readonly #process: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  container = 0;

  constructor(spec: NodeSpec) {
    const script = fileURLToPath(new URL('tunnel-node.ts', import.meta.url));
    const command = ['--net', '--mount', process.execPath, script, JSON.stringify(spec)];
    this.#process = spawn('unshare', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#answers = createInterface(this.#process.stdout!)[Symbol.asyncIterator]();
  }

  async start(): Promise<void> {
    await this.#answer();
    const wire = `wire${this.pid}`; // the kernel takes its time to remove those of earlier nodes
    run('ip', 'link', 'add', wire, 'type', 'veth', 'peer', 'name', 'wire', 'netns', String(this.pid));
    run('ip', 'link', 'set', wire, 'master', 'wires', 'up');
    this.container = (await this.tell({})).container!;
  }

  get pid(): number {
    return this.#process.pid!;
  }

  async tell(command: { from?: number }): Promise<NodeStatus> {
    this.#process.stdin!.write(`${JSON.stringify(command)}\n`);
    return this.#answer();
  }

  async stop(): Promise<void> {
    this.#process.stdin!.end();
    if (this.#process.exitCode === null) await once(this.#process, 'exit');
  }

  async #answer(): Promise<NodeStatus> {
    const { value, done } = await this.#answers.next();
    assert.ok(done !== true, 'the node died');
    return JSON.parse(value) as NodeStatus;
  }
}

/** The server's answer to a client in the namespace of process `pid`. */
function ask(pid: number, host: string, bytes = 1, limitMs = 20_000): string {
  const command = [`--net=/proc/${pid}/ns/net`, process.execPath, '-e', CLIENT, host, String(bytes)];
  const env = { ...process.env, LIMIT_MS: String(limitMs) };
  return spawnSync('nsenter', command, { encoding: 'utf8', env }).stdout.trim();
}

inNamespace(fileURLToPath(import.meta.url), () => {
  run('ip', 'link', 'set', 'lo', 'up');
  run('ip', 'link', 'add', 'wires', 'type', 'bridge');
  run('ip', 'link', 'set', 'wires', 'up');
  run('ip', 'address', 'add', '192.0.2.66/24', 'dev', 'wires');
  run('ip', 'address', 'add', '2001:db8::66/64', 'dev', 'wires', 'nodad');
  for (const underlay of FAMILIES) testNodes({ tunnel: true, underlay });
  testNodes({ tunnel: false, underlay: 4 });
});

function testNodes(mode: Omit<NodeSpec, 'number'>): void {
  suite(mode.tunnel ? `VXLAN over IPv${mode.underlay}` : 'native routing', () => {
    const nodes: TestNode[] = [];
    const [one, two] = [addressesOf(1), addressesOf(2)];
    before(async () => {
      for (const number of [1, 2]) nodes.push(new TestNode({ ...mode, number }));
      for (const node of nodes) await node.start();
    });
    after(async () => {
      for (const node of nodes) await node.stop();
    });

    for (const family of FAMILIES) {
      const title = (text: string): string => `privileged: IPv${family}: ${text}`;

      test(title('containers reach each other, small and large, and see the address of each other'), () => {
        const [first, second] = nodes;
        for (const bytes of [1, 1400, 4 * MEGABYTE]) {
          assert.equal(ask(first!.container, two.container[family], bytes), `${bytes} ${one.container[family]}`);
          assert.equal(ask(second!.container, one.container[family], bytes), `${bytes} ${two.container[family]}`);
        }
      });

      test(title('a node reaches the containers of the other one'), () => {
        const answer = ask(nodes[0]!.pid, two.container[family], MEGABYTE);
        assert.equal(answer, `${MEGABYTE} ${one.router[family]}`);
      });

      test(title('policy knows the other node and its containers'), async () => {
        const [first, second] = nodes;
        await second!.tell({ from: IDENTITIES[1]! });
        assert.equal(ask(first!.container, two.container[family]), `1 ${one.container[family]}`);
        assert.equal(ask(first!.pid, two.container[family], 1, 1500), 'timeout');
        await second!.tell({ from: REMOTE_NODE });
        assert.equal(ask(first!.container, two.container[family], 1, 1500), 'timeout');
        if (mode.tunnel) assert.equal(ask(first!.pid, two.container[family]), `1 ${one.router[family]}`);
        await second!.tell({ from: 0 });
        assert.equal(ask(first!.container, two.container[family]), `1 ${one.container[family]}`);
      });
    }

    if (mode.tunnel) {
      test('privileged: what a stranger sends through a tunnel of its own is dropped', async () => {
        const before = (await nodes[1]!.tell({})).drops?.[UNKNOWN_SENDER] ?? 0;
        const [local, remote] = mode.underlay === 4 ? ['192.0.2.66', '192.0.2.2'] : ['2001:db8::66', '2001:db8::2'];
        const tunnel = ['id', String(IDENTITIES[1]), 'local', local, 'remote', remote, 'dstport', '8472'];
        run('ip', 'link', 'add', 'liar', 'type', 'vxlan', ...tunnel);
        run('ip', 'address', 'add', '10.0.1.1/32', 'dev', 'liar');
        run('ip', 'link', 'set', 'liar', 'up');
        run('ip', 'route', 'add', '10.0.2.0/24', 'dev', 'liar', 'src', '10.0.1.1');
        run('ip', 'neighbour', 'add', '10.0.2.1', 'lladdr', '02:00:00:00:02:01', 'dev', 'liar');
        assert.equal(ask(process.pid, '10.0.2.1', 1, 1500), 'timeout');
        run('ip', 'link', 'delete', 'liar');
        const drops = (await nodes[1]!.tell({})).drops?.[UNKNOWN_SENDER] ?? 0;
        assert.ok(drops > before, `${drops} after ${before}`);
      });
    }
  });
}
