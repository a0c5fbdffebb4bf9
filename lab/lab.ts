// SPDX-License-Identifier: Apache-2.0

/**
 * A lab: nodes with a Docker Engine and an agent each, the etcd that these share, and `outside`, on one wire, on one machine.
 *
 *     outside ──┐                     192.168.251.254, fd00:251::fe; beyond it 198.51.100.1, 2001:db8:251::1
 *     node1 ────┼─ wire (a bridge)    192.168.251.1, fd00:251::1
 *     node2 ────┤                     192.168.251.2, fd00:251::2 …
 *     etcd1 ────┘                     192.168.251.101, fd00:251::101 …
 *
 * `up` and `down` may be repeated and may be killed at any moment: what is there is found through the lab's control
 * group and its folder, not through anything that a crash could leave untold.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { CiliumError } from '../errors/cilium-error.ts';
import { nameServer, OUTSIDE, WORLD, type Addresses } from './addresses.ts';
import { Cgroup } from './cgroup.ts';
import type { Cuts } from './cuts.ts';
import { Daemon } from './daemon.ts';
import { enginePath, provideEngine } from './engine.ts';
import { EtcdMember } from './etcd-member.ts';
import { makeImages } from './images.ts';
import { Machine } from './machine.ts';
import { HOME, LabNode } from './node.ts';
import { outsideServer } from './outside.ts';
import { requirePrograms } from './requirements.ts';
import { fullSettings, toldSettings, type FullSettings, type LabSettings } from './settings.ts';
import { Wire } from './wire.ts';

export const DEFAULT_LAB = 'lab';
const DEFAULT_BASE_DIR = '/var/lib/cilium-lab';

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

export interface MemberStatus {
  name: string;
  addresses: Addresses;
  up: boolean;
  pid?: number;
}

export class Lab {
  readonly name: string;
  readonly dir: string;
  /** The machine on the wire that is not a node; a web server answers on port 80 of all its addresses. */
  readonly outside: Machine;
  /** Members of the etcd that the agents share; none in a lab without it. */
  readonly etcd: readonly EtcdMember[];
  readonly #wire: Wire;
  readonly #cgroup: Cgroup;
  readonly #nodes = new Map<number, LabNode>();
  readonly #onProgress: (step: string) => void;
  readonly #told: LabSettings;
  readonly #settings: FullSettings;

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
    this.#wire = new Wire(join(this.dir, 'wire'), this.#cgroup.child('wire'));
    this.outside = this.#machine('outside');
    this.#told = toldSettings(settings, this.#settingsFile);
    this.#settings = fullSettings(this.#told, this.#settingsFile);
    const { etcd: size } = this.#settings;
    this.etcd = Array.from({ length: size }, (_unused, index) => {
      const { dir, cgroup } = this.#machine(`etcd${index + 1}`);
      return new EtcdMember(index + 1, size, dir, cgroup);
    });
  }

  /** Names of the labs that left anything on this machine, by their processes or their files. */
  static names(): string[] {
    const byFiles = existsSync(baseDir()) ? readdirSync(baseDir()) : [];
    return [...new Set([...byFiles, ...Cgroup.labNames()])].sort();
  }

  /** Whether anything of it is there, up or not. */
  get exists(): boolean {
    return Lab.names().includes(this.name);
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
      const { dir, cgroup } = this.#machine(`node${number}`);
      node = new LabNode(number, dir, cgroup, {
        enginePath: enginePath(this.#settings.engine),
        agentArgs: [...this.#kvstoreArgs, ...this.#settings.agentArgs],
        ...(this.etcd.length > 0 && { nameServer: nameServer(number) }),
      });
      this.#nodes.set(number, node);
    }
    return node;
  }

  /** The member of this number; the first is 1. */
  member(number: number): EtcdMember {
    const member = this.etcd[number - 1];
    if (member === undefined) {
      throw new CiliumError(
        'NotFound',
        `${this.name} has ${this.etcd.length} members of etcd, and none of number ${number}`,
      );
    }
    return member;
  }

  /**
   * Nothing passes any more between this machine (`node1`, `etcd1`, `outside`) and the others given, or all others;
   * `etcd` is all members. Links stay up, as with a broken switch. Cuts add up until they are healed.
   */
  cut(name: string, ...others: readonly string[]): Promise<void> {
    return this.#wire.cut(name, this.#others(name, others));
  }

  /** Undoes cuts between this machine and those given, or all others; without any name: all cuts. */
  heal(name?: string, ...others: readonly string[]): Promise<void> {
    return name === undefined ? this.#wire.healAll() : this.#wire.heal(name, this.#others(name, others));
  }

  /** What is cut now; needs root. */
  async cuts(): Promise<Cuts> {
    return this.#wire.isUp ? this.#wire.cuts() : new Map();
  }

  /** Brings up whatever of the lab is not up. */
  async up(): Promise<void> {
    if (process.getuid?.() !== 0) throw new CiliumError('Precondition', 'a lab needs root');
    if (this.#settings.agent) requirePrograms(HOME);
    await this.#exclusively(async () => {
      mkdirSync(this.dir, { recursive: true });
      writeFileSync(this.#settingsFile, JSON.stringify(this.#told));
      await provideEngine(this.#settings.engine);
      await this.#upOutside();
      await Promise.all(this.etcd.map((member) => this.#upMember(member)));
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

  members(): MemberStatus[] {
    return this.etcd.map((member) => ({
      name: member.name,
      addresses: member.addresses,
      up: member.machine.isUp,
      ...(member.pid !== undefined && { pid: member.pid }),
    }));
  }

  async #upOutside(): Promise<void> {
    if (!this.#wire.isUp) {
      this.#onProgress('wire');
      await this.#cgroup.kill(); // whatever hung on the wire starts anew as well
      await this.#wire.up();
    }
    if (!this.outside.isUp) {
      this.#onProgress('outside');
      const world = [`addr add ${WORLD.ipv4}/32 dev lo`, `addr add ${WORLD.ipv6}/128 dev lo`];
      await this.outside.up(() => this.#wire.plug(this.outside, OUTSIDE, world));
    }
    await new Daemon(this.outside, 'web').start(outsideServer(this.outside));
  }

  async #upMember(member: EtcdMember): Promise<void> {
    this.#onProgress(member.name);
    if (!member.machine.isUp) await member.machine.up(() => this.#wire.plug(member.machine, member.addresses));
    await member.start();
  }

  async #upNode(node: LabNode): Promise<void> {
    if (!node.machine.isUp) {
      this.#onProgress(`${node.name}: namespaces`);
      const { ipv4, ipv6 } = node.addresses;
      const dual = this.#settings.underlay === 'dual';
      await node.machine.up(() =>
        this.#wire.plug(node.machine, dual ? { ipv4, ipv6 } : { ipv6 }, [
          ...(dual ? [`route add default via ${OUTSIDE.ipv4}`] : []),
          `route add default via ${OUTSIDE.ipv6}`,
        ]),
      );
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

  /** How agents find what they share. */
  get #kvstoreArgs(): string[] {
    const family = this.#settings.underlay === 'dual' ? 'ipv4' : 'ipv6';
    const members = this.etcd.map(({ urls }) => `--kvstore-opt=etcd.address=${urls[family]}`);
    return members.length === 0 ? [] : ['--kvstore=etcd', ...members];
  }

  /** Machines on the wire besides `name`: those given, or all. */
  #others(name: string, given: readonly string[]): string[] {
    const members = this.etcd.map((member) => member.name);
    const all = [...this.nodes.map((node) => node.name), ...members, this.outside.name];
    const wanted = given.length === 0 ? all : given.flatMap((one) => (one === 'etcd' ? members : [one]));
    const unknown = [name, ...wanted].find((one) => !all.includes(one));
    if (unknown !== undefined) {
      throw new CiliumError('NotFound', `"${unknown}" is not on the wire of ${this.name}: expected ${all.join(', ')}`);
    }
    const others = wanted.filter((one) => one !== name);
    if (others.length === 0) throw new CiliumError('InvalidArgument', `nothing to cut ${name} from`);
    return others;
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
