// SPDX-License-Identifier: Apache-2.0

/**
 * What the tests of faults have in common: rules, who may reach whom by them, and the traffic of all of these while
 * something goes wrong.
 */
import { test, type TestContext } from 'node:test';
import { labelled } from './cluster-cases.ts';
import type { ClusterWorld, Member } from './cluster-world.ts';
import { Watch, type Pair } from './cluster-watch.ts';

/** Clients may reach servers and nothing else; servers are open to clients, but for those that are banned. */
export const FAULT_RULES = [
  {
    endpointSelector: labelled('server'),
    ingress: [{ fromEndpoints: [labelled('client')] }],
    ingressDeny: [{ fromEndpoints: [{ matchLabels: { banned: 'yes' } }] }],
  },
  { endpointSelector: labelled('client'), egress: [{ toEndpoints: [labelled('server')] }] },
];

export class FaultWorld {
  readonly world: ClusterWorld;

  constructor(world: ClusterWorld) {
    this.world = world;
  }

  /** Pairs that the rules allow, between the nodes given as "from to". */
  allowed(...ways: readonly string[]): Pair[] {
    return ways.map((way) => this.#pair('client', 'server', way));
  }

  /** Pairs that the rules forbid at the receiver, by a denial there, and at the sender. */
  forbidden(...ways: readonly string[]): Pair[] {
    return ways.flatMap((way) => [
      this.#pair('stranger', 'server', way),
      this.#pair('banned', 'server', way),
      this.#pair('client', 'stranger', way),
    ]);
  }

  /** A test in which traffic runs, from before the fault until after it; `check` is told what came of it. */
  fault(
    title: string,
    pairs: () => { readonly allowed: readonly Pair[]; readonly forbidden: readonly Pair[] },
    work: (t: TestContext, world: ClusterWorld) => Promise<void>,
    check: (watch: Watch) => void = (watch) => watch.assertWhole(),
  ): void {
    test(`privileged: ${title}`, async (t) => {
      const before = new Set(this.world.names());
      t.after(() => this.#repair(before));
      const watch = await Watch.start(t, pairs());
      await work(t, this.world);
      await watch.stop();
      t.diagnostic(watch.summary());
      watch.assertClosed();
      check(watch);
    });
  }

  /** What a test that failed has left broken is not to fail the next one. */
  async #repair(members: ReadonlySet<string>): Promise<void> {
    const { lab } = this.world;
    await lab.heal();
    for (const member of lab.etcd) member.resume();
    await Promise.all(lab.etcd.map((member) => member.start()));
    await Promise.all(lab.nodes.filter(({ machine }) => machine.isUp).map((node) => node.startAgent()));
    for (const name of this.world.names()) if (!members.has(name)) await this.world.remove(name);
  }

  #pair(from: string, to: string, way: string): Pair {
    const [first, second] = way.split(' ');
    const member = (kind: string, node?: string): Member => this.world.get(`${kind}${node!}`);
    return { from: member(from, first), to: member(to, second) };
  }
}
