// SPDX-License-Identifier: Apache-2.0

/**
 * What the machines of a lab hang on: a bridge in a namespace of its own. It can be cut between two of them, as a
 * broken switch does it: frames are dropped, links stay up, and nobody's namespace but the wire's is touched.
 */
import { WIRE_LENGTH, type Addresses } from './addresses.ts';
import type { Cgroup } from './cgroup.ts';
import { parseCuts, type Cuts } from './cuts.ts';
import { Machine } from './machine.ts';

/** Pairs of ports, sender first, between which nothing passes; the rule stays, the set changes. */
const CUTS = `table bridge lab {
  set cut { type ifname . ifname; }
  chain forward { type filter hook forward priority 0; iifname . oifname @cut drop; }
}
`;

export class Wire {
  readonly #machine: Machine;

  constructor(dir: string, cgroup: Cgroup) {
    this.#machine = new Machine('wire', dir, cgroup);
  }

  get isUp(): boolean {
    return this.#machine.isUp;
  }

  up(): Promise<void> {
    return this.#machine.up(async () => {
      await ip(this.#machine, ['link add br0 type bridge mcast_snooping 0', 'link set br0 up']);
      await this.#nft(CUTS);
    });
  }

  /** Puts eth0 of a machine whose namespaces are just made on the wire; an absent family is not configured. */
  async plug(machine: Machine, { ipv4, ipv6 }: Partial<Addresses>, more: readonly string[] = []): Promise<void> {
    // The kernel takes its time to remove the port of a machine that was killed a moment ago.
    await this.#machine.run(['ip', 'link', 'delete', machine.name]);
    await ip(this.#machine, [
      `link add ${machine.name} type veth peer name eth0 netns ${machine.holder!}`,
      `link set ${machine.name} master br0 up`,
    ]);
    await ip(machine, [
      ...(ipv4 === undefined ? [] : [`addr add ${ipv4}/${WIRE_LENGTH.ipv4} dev eth0`]),
      ...(ipv6 === undefined ? [] : [`addr add ${ipv6}/${WIRE_LENGTH.ipv6} dev eth0 nodad`]),
      'link set eth0 up',
      ...more,
    ]);
  }

  /** Nothing passes between `name` and any of `others`, in either direction, until it is healed. May be repeated. */
  cut(name: string, others: readonly string[]): Promise<void> {
    return this.#nft(`add element bridge lab cut { ${pairs(name, others)} }\n`);
  }

  /** Undoes cuts between `name` and `others`, of whoever cut them; those that are whole stay whole. */
  heal(name: string, others: readonly string[]): Promise<void> {
    const elements = pairs(name, others); // added first: what is not there cannot be deleted
    return this.#nft(`add element bridge lab cut { ${elements} }\ndelete element bridge lab cut { ${elements} }\n`);
  }

  healAll(): Promise<void> {
    return this.#nft('flush set bridge lab cut\n');
  }

  async cuts(): Promise<Cuts> {
    return parseCuts(await this.#machine.exec(['nft', '-j', 'list', 'set', 'bridge', 'lab', 'cut']));
  }

  async #nft(commands: string): Promise<void> {
    await this.#machine.exec(['nft', '-f', '-'], { input: commands });
  }
}

function pairs(name: string, others: readonly string[]): string {
  return others.flatMap((other) => [`"${name}" . "${other}"`, `"${other}" . "${name}"`]).join(', ');
}

async function ip(machine: Machine, commands: readonly string[]): Promise<void> {
  await machine.exec(['ip', '-batch', '-'], { input: `${commands.join('\n')}\n` });
}
