// SPDX-License-Identifier: Apache-2.0

/** The allocator as nodes use it: processes of their own, one etcd, and kill -9 in between. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { test } from 'node:test';
import { EtcdServer } from '../../tests/support/etcd-server.ts';
import { eventually } from '../../tests/support/eventually.ts';

const SCRIPT = join(import.meta.dirname, '../../tests/support/identity-racer.ts');
const SETS = 100;
const PER_AGENT = 200;

class Racer {
  output = '';
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;

  constructor(url: string, node: string) {
    const args = [SCRIPT, url, node, String(PER_AGENT), String(SETS)];
    this.#child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout.on('data', (data: Buffer) => {
      this.output += data.toString();
    });
  }

  async prints(text: string): Promise<void> {
    await eventually(`it prints ${text}`, () => this.output.includes(`${text}\n`));
  }

  go(): void {
    this.#child.stdin.write('go\n');
  }

  async kill(): Promise<void> {
    if (this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }

  /** What it was told: labels and number. */
  get numbers(): [string, number][] {
    return [...this.output.matchAll(/^(\S+;) (\d+)\n/gm)].map(([, labels, id]) => [labels!, Number(id)]);
  }
}

test('1,000 racing allocations of 100 label sets by 5 processes, two of them and etcd killed, give 100 numbers agreed by all', async () => {
  const server = await EtcdServer.start();
  const all: Racer[] = [];
  const start = (node: number): Racer => {
    const racer = new Racer(server.url, `10.0.0.${node}`);
    all.push(racer);
    return racer;
  };
  try {
    const racers = [1, 2, 3, 4, 5].map(start);
    await Promise.all(racers.map((racer) => racer.prints('ready')));
    for (const racer of racers) racer.go();
    // In the midst of it.
    for (const victim of [racers[0]!, racers[1]!]) {
      await eventually('some numbers', () => victim.numbers.length > 5);
      await victim.kill();
    }
    await server.restart();
    const again = [1, 2].map(start);
    await Promise.all(again.map((racer) => racer.prints('ready')));
    for (const racer of again) racer.go();
    const survivors = [...racers.slice(2), ...again];
    await Promise.all(survivors.map((racer) => racer.prints('done')));

    for (const racer of survivors) assert.equal(racer.numbers.length, PER_AGENT);
    const numbers = new Map<string, number>();
    for (const [labels, id] of all.flatMap((racer) => racer.numbers)) {
      assert.equal(numbers.get(labels) ?? id, id, `two numbers for ${labels}`);
      numbers.set(labels, id);
    }
    assert.deepEqual([numbers.size, new Set(numbers.values()).size], [SETS, SETS]);

    const expected = [...numbers].flatMap(([labels, id]) => [
      [`cilium/state/identities/v1/id/${id}`, labels] as const,
      ...[1, 2, 3, 4, 5].map(
        (node) => [`cilium/state/identities/v1/value/${labels}/10.0.0.${node}`, String(id)] as const,
      ),
    ]);
    const found = [...(await server.dump())].filter(([key]) => !key.includes('/locks/'));
    assert.deepEqual(new Map(found.sort()), new Map(expected.sort()));
  } finally {
    await Promise.all(all.map((racer) => racer.kill()));
    await server.remove();
  }
});
