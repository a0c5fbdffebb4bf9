// SPDX-License-Identifier: Apache-2.0

/**
 * A lab: nodes with a Docker Engine and an agent each, and `outside`, on one wire, on one machine.
 *
 *     outside ──┐                     192.168.251.254, fd00:251::fe; beyond it 198.51.100.1, 2001:db8:251::1
 *     node1 ────┼─ wire (a bridge)    192.168.251.1, fd00:251::1
 *     node2 ────┘                     192.168.251.2, fd00:251::2 …
 *
 * `up` and `down` may be repeated and may be killed at any moment: what is there is found through the lab's control
 * group and its folder, not through anything that a crash could leave untold.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { CiliumError } from '../errors/cilium-error.ts';
import { MAX_NODES, nodeAddresses, OUTSIDE, WIRE_LENGTH, WORLD, type Addresses } from './addresses.ts';
import { Cgroup } from './cgroup.ts';
import { Daemon } from './daemon.ts';
import { enginePath, provideEngine } from './engine.ts';
import { makeImages } from './images.ts';
import { Machine } from './machine.ts';
import { LabNode } from './node.ts';
import { outsideServer } from './outside.ts';

export const DEFAULT_LAB = 'lab';
const DEFAULT_BASE_DIR = '/var/lib/cilium-lab';

export interface LabSettings {
  /** How many nodes; nodes that exist already stay. */
  nodes: number;
  /** The Docker Engine: a version known to engine.ts or a folder with another one's programs; $LAB_ENGINE, or the system's, if absent. */
  engine?: string;
  /** False: nodes have a Docker Engine only. */
  agent: boolean;
  agentArgs: readonly string[];
}

export interface LabOptions extends Partial<LabSettings> {
  /** Several labs live side by side under different names. */
  name?: string;
  /** Told what is being done. */
  onProgress?: (step: string) => void;
}

export interface NodeStatus {
  name: string;
  addresses: Addresses;
  up: boolean;
  dockerdPid?: number;
  agentPid?: number;
}

export class Lab {
  readonly name: string;
  readonly dir: string;
  /** The machine on the wire that is not a node; a web server answers on port 80 of all its addresses. */
  readonly outside: Machine;
  readonly #wire: Machine;
  readonly #cgroup: Cgroup;
  readonly #nodes = new Map<number, LabNode>();
  readonly #onProgress: (step: string) => void;
  #settings: LabSettings;

  /** Settings that are not given are those of the lab of this name if it exists. */
  constructor(options: LabOptions = {}) {
    const { name = DEFAULT_LAB, onProgress = () => undefined, ...settings } = options;
    if (!/^[a-z][a-z0-9-]{0,30}$/.test(name)) {
      throw new CiliumError('InvalidArgument', `"${name}" is no name for a lab: lower-case letters, digits, dashes`);
    }
    this.name = name;
    this.dir = join(baseDir(), name);
    this.#onProgress = onProgress;
    this.#cgroup = Cgroup.ofLab(name);
    this.#wire = this.#machine('wire');
    this.outside = this.#machine('outside');
    const { LAB_ENGINE: engine } = process.env;
    const defaults: LabSettings = { nodes: 1, agent: true, agentArgs: [], ...(engine && { engine }) };
    this.#settings = { ...defaults, ...readSettings(this.#settingsFile), ...settings };
    if (!Number.isInteger(this.#settings.nodes) || this.#settings.nodes < 1 || this.#settings.nodes > MAX_NODES) {
      throw new CiliumError('InvalidArgument', `a lab has 1 to ${MAX_NODES} nodes`);
    }
  }

  /** Names of the labs that left anything on this machine, by their processes or their files. */
  static names(): string[] {
    const byFiles = existsSync(baseDir()) ? readdirSync(baseDir()) : [];
    return [...new Set([...byFiles, ...Cgroup.labNames()])].sort();
  }

  get nodes(): readonly LabNode[] {
    return Array.from({ length: this.#settings.nodes }, (_unused, index) => this.node(index + 1));
  }

  /** The node of this number; the first is 1. */
  node(number: number): LabNode {
    if (!Number.isInteger(number) || number < 1 || number > this.#settings.nodes) {
      throw new CiliumError('NotFound', `${this.name} has nodes 1 to ${this.#settings.nodes}, not ${number}`);
    }
    let node = this.#nodes.get(number);
    if (node === undefined) {
      const { engine, agentArgs } = this.#settings;
      const machine = this.#machine(`node${number}`);
      node = new LabNode(number, machine.dir, machine.cgroup, { enginePath: enginePath(engine), agentArgs });
      this.#nodes.set(number, node);
    }
    return node;
  }

  /** Brings up whatever of the lab is not up. */
  async up(): Promise<void> {
    if (process.getuid?.() !== 0) throw new CiliumError('Precondition', 'a lab needs root');
    await this.#exclusively(async () => {
      mkdirSync(this.dir, { recursive: true });
      writeFileSync(this.#settingsFile, JSON.stringify(this.#settings));
      await provideEngine(this.#settings.engine);
      await this.#upOutside();
      await Promise.all(this.nodes.map((node) => this.#upNode(node)));
    });
  }

  /** Ends every process of the lab and removes all it had. Works on a lab in any state. */
  async down(): Promise<void> {
    await this.#exclusively(async () => {
      await this.#cgroup.kill();
      await this.#cgroup.remove();
      rmSync(this.dir, { recursive: true, force: true });
    });
  }

  status(): NodeStatus[] {
    return this.nodes.map((node) => ({
      name: node.name,
      addresses: node.addresses,
      up: node.machine.isUp,
      ...(node.dockerdPid !== undefined && { dockerdPid: node.dockerdPid }),
      ...(node.agentPid !== undefined && { agentPid: node.agentPid }),
    }));
  }

  async #upOutside(): Promise<void> {
    if (!this.#wire.isUp) {
      this.#onProgress('wire');
      await this.#cgroup.kill(); // whatever hung on the wire starts anew as well
      await this.#wire.up(() => ip(this.#wire, ['link add br0 type bridge mcast_snooping 0', 'link set br0 up']));
    }
    if (!this.outside.isUp) {
      this.#onProgress('outside');
      await this.outside.up(async () => {
        await ip(this.#wire, this.#plug(this.outside));
        await ip(this.outside, [
          ...addressCommands(OUTSIDE),
          `addr add ${WORLD.ipv4}/32 dev lo`,
          `addr add ${WORLD.ipv6}/128 dev lo`,
        ]);
      });
    }
    await new Daemon(this.outside, 'web').start(outsideServer(this.outside));
  }

  async #upNode(node: LabNode): Promise<void> {
    if (!node.machine.isUp) {
      this.#onProgress(`${node.name}: namespaces`);
      await node.machine.up(async () => {
        await ip(this.#wire, this.#plug(node.machine));
        await ip(node.machine, [
          ...addressCommands(nodeAddresses(node.number)),
          `route add default via ${OUTSIDE.ipv4}`,
          `route add default via ${OUTSIDE.ipv6}`,
        ]);
      });
    }
    this.#onProgress(`${node.name}: Docker Engine${this.#settings.agent ? ' and agent' : ''}`);
    await Promise.all([
      node.startDockerd().then(() => makeImages(node)),
      this.#settings.agent ? node.startAgent() : undefined,
    ]);
  }

  #machine(name: string): Machine {
    return new Machine(name, join(this.dir, name), this.#cgroup.child(name));
  }

  get #settingsFile(): string {
    return join(this.dir, 'lab.json');
  }

  /** The commands, run on the wire, that put a machine's eth0 on it. */
  #plug(machine: Machine): string[] {
    return [
      `link add ${machine.name} type veth peer name eth0 netns ${machine.holder!}`,
      `link set ${machine.name} master br0 up`,
    ];
  }

  /** Two commands on one lab at the same time would undo each other. The kernel frees the lock when its owner dies. */
  async #exclusively(work: () => Promise<void>): Promise<void> {
    const lock = createServer();
    await new Promise<void>((resolve, reject) => {
      lock.once('error', (cause) =>
        reject(new CiliumError('InUse', `another command works on the lab "${this.name}"`, {}, cause)),
      );
      lock.listen(`\0cilium-lab-${this.name}`, resolve);
    });
    try {
      await work();
    } finally {
      lock.close();
    }
  }
}

function baseDir(): string {
  return process.env.LAB_DIR ?? DEFAULT_BASE_DIR;
}

function readSettings(file: string): Partial<LabSettings> {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as LabSettings) : {};
}

function addressCommands({ ipv4, ipv6 }: Addresses): string[] {
  return [
    `addr add ${ipv4}/${WIRE_LENGTH.ipv4} dev eth0`,
    `addr add ${ipv6}/${WIRE_LENGTH.ipv6} dev eth0 nodad`,
    'link set eth0 up',
  ];
}

async function ip(machine: Machine, commands: readonly string[]): Promise<void> {
  await machine.exec(['ip', '-batch', '-'], { input: `${commands.join('\n')}\n` });
}
