// SPDX-License-Identifier: Apache-2.0

/** Containers on several nodes of a lab, on one network, with one policy: what the tests of the cluster stand on. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output } from '../../lab/command.ts';
import type { Lab } from '../../lab/lab.ts';
import type { LabNode } from '../../lab/node.ts';
import { addressesOf, pidOf } from '../support/containers.ts';
import type { Place } from '../traffic/traffic.ts';

export const FAMILIES = ['ipv4', 'ipv6'] as const;
export type Family = (typeof FAMILIES)[number];

/** A container, where it is and what it is called there. */
export class Member {
  readonly name: string;
  readonly node: LabNode;
  readonly pid: number;
  readonly ipv4: string;
  readonly ipv6: string;

  constructor(name: string, node: LabNode, pid: number, addresses: { ipv4: string; ipv6: string }) {
    this.name = name;
    this.node = node;
    this.pid = pid;
    this.ipv4 = addresses.ipv4;
    this.ipv6 = addresses.ipv6;
  }

  get prefixes(): string[] {
    return [`${this.ipv4}/32`, `${this.ipv6}/128`];
  }

  get place(): Place {
    return { pid: this.pid };
  }

  /** Runs a program of the machine in the container's network; throws unless it succeeds. */
  run(...argv: string[]): Promise<string> {
    return output(['nsenter', `--net=/proc/${this.pid}/ns/net`, '--', ...argv]);
  }

  async identity(): Promise<number> {
    return (await endpointOf(this.node, this.ipv4)).identity;
  }
}

export class ClusterWorld {
  readonly lab: Lab;
  readonly network: string;
  readonly #members = new Map<string, Member>();

  constructor(lab: Lab, network = 'net1') {
    this.lab = lab;
    this.network = network;
  }

  /** The same `docker network create` on each node. */
  async createNetwork(nodes: readonly LabNode[] = this.lab.nodes): Promise<void> {
    const command = ['network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', this.network];
    await Promise.all(nodes.map((node) => node.docker(command)));
  }

  get(name: string): Member {
    const member = this.#members.get(name);
    assert.ok(member, name);
    return member;
  }

  /** Names of the members there are. */
  names(): string[] {
    return [...this.#members.keys()];
  }

  /** Starts a container with the label `id`; `more` are further arguments of `docker run`. */
  async run(nodeNumber: number, name: string, id?: string, ...more: string[]): Promise<Member> {
    const node = this.lab.node(nodeNumber);
    const label = id === undefined ? [] : ['-l', `id=${id}`];
    await node.docker(['run', '-d', '--name', name, '--network', this.network, ...label, ...more, 'web']);
    return this.found(nodeNumber, name);
  }

  /** Starts a container on a network of its own, made on its node only. */
  async runElsewhere(nodeNumber: number, name: string, networkOptions: readonly string[]): Promise<Member> {
    const node = this.lab.node(nodeNumber);
    const network = `${name}-net`;
    await node.docker(['network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', ...networkOptions, network]);
    await node.docker(['run', '-d', '--name', name, '--network', network, '-l', `id=${name}`, 'web']);
    return this.found(nodeNumber, name);
  }

  /** Takes a container in that runs already. */
  async found(nodeNumber: number, name: string): Promise<Member> {
    const node = this.lab.node(nodeNumber);
    const { ipv4, ipv6 } = await addressesOf(node, name);
    assert.ok(ipv6, `${name} has an IPv6 address`);
    const member = new Member(name, node, await pidOf(node, name), { ipv4, ipv6 });
    this.#members.set(name, member);
    return member;
  }

  async remove(name: string): Promise<void> {
    await this.get(name).node.docker(['rm', '-f', name]);
    this.#members.delete(name);
  }

  /** What the kernel of a node knows of addresses: prefix to what it says of it. */
  async ipcacheOf(nodeNumber: number): Promise<Map<string, string>> {
    const text = await this.lab.node(nodeNumber).cilium(['bpf', 'ipcache', 'list', '-o', 'json']);
    return new Map(Object.entries(JSON.parse(text) as Record<string, string[]>).map(([key, [value]]) => [key, value!]));
  }

  /** The kernels of these nodes have both addresses of a member. */
  async assertKnown(member: Member, nodes: readonly number[]): Promise<void> {
    for (const number of nodes) {
      const known = await this.ipcacheOf(number);
      for (const prefix of member.prefixes) assert.ok(known.has(prefix), `node${number} knows ${prefix}`);
    }
  }

  /** They have neither of them. */
  async assertForgotten(member: Member, nodes: readonly number[]): Promise<void> {
    for (const number of nodes) {
      const known = await this.ipcacheOf(number);
      for (const prefix of member.prefixes) assert.ok(!known.has(prefix), `node${number} has forgotten ${prefix}`);
    }
  }

  /** The rules that all nodes have from now on. */
  async importPolicy(rules: readonly object[], nodes: readonly LabNode[] = this.lab.nodes): Promise<void> {
    const file = join(this.lab.dir, 'policy.json');
    writeFileSync(file, JSON.stringify(rules));
    await Promise.all(
      nodes.map(async (node) => {
        await node.cilium(['policy', 'delete', '--all']);
        if (rules.length > 0) await node.cilium(['policy', 'import', file]);
      }),
    );
  }
}

export interface EndpointFacts {
  readonly id: number;
  readonly identity: number;
}

/** What a node's agent says of the endpoint with this address. */
export async function endpointOf(node: LabNode, address: string): Promise<EndpointFacts> {
  const listed = JSON.parse(await node.cilium(['endpoint', 'list', '-o', 'json'])) as {
    id: number;
    status: { identity?: { id: number }; networking: { addressing: { ipv4?: string; ipv6?: string }[] } };
  }[];
  const found = listed.find(({ status }) => status.networking.addressing.some(({ ipv4 }) => ipv4 === address));
  assert.ok(found?.status.identity, `${node.name} has an endpoint ${address}`);
  return { id: found.id, identity: found.status.identity.id };
}
