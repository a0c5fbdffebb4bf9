// SPDX-License-Identifier: Apache-2.0

/** What a lab is made of: as told now, as it was made, or by default, in this order. */
import { existsSync, readFileSync } from 'node:fs';
import { CiliumError } from '../errors/cilium-error.ts';
import { ETCD_SIZES, MAX_NODES } from './addresses.ts';

export interface LabSettings {
  /** How many nodes; nodes that exist already stay. */
  nodes: number;
  /** The Docker Engine: a version known to engine.ts or a folder with another one's programs; $LAB_ENGINE, or the system's, if absent. */
  engine?: string;
  /** False: nodes have a Docker Engine only. */
  agent: boolean;
  agentArgs: readonly string[];
  /** Members of the etcd that the agents share: 0, 1 or 3. @default 1 when there are several nodes with an agent */
  etcd?: number;
  /** Families of the nodes' own addresses. @default dual */
  underlay?: 'dual' | 'ipv6';
}

export type FullSettings = LabSettings & Required<Pick<LabSettings, 'etcd' | 'underlay'>>;

/** What was said, now or when the lab was made; defaults that depend on the rest are left open. */
export function toldSettings(given: Partial<LabSettings>, file: string): LabSettings {
  const { LAB_ENGINE: engine } = process.env;
  return { nodes: 1, agent: true, agentArgs: [], ...(engine && { engine }), ...readSettings(file), ...given };
}

/** Throws `InvalidArgument` for what no lab has, and for what a lab that is there (its `file` is) cannot become. */
export function fullSettings(told: LabSettings, file: string): FullSettings {
  const settings = complete(told);
  check(settings);
  const stored = readSettings(file);
  const made = stored === undefined ? settings : complete(stored);
  if (made.etcd !== settings.etcd || made.underlay !== settings.underlay) {
    const [was, wanted] = [made, settings].map((one) => `etcd ${one.etcd}, underlay ${one.underlay}`);
    throw new CiliumError(
      'InvalidArgument',
      `the lab is there with ${was!}, and cannot become one with ${wanted!}: take it down first, or ask for what it has`,
    );
  }
  return settings;
}

function complete(settings: LabSettings): FullSettings {
  return { underlay: 'dual', etcd: settings.nodes > 1 && settings.agent ? 1 : 0, ...settings };
}

function check({ nodes, etcd }: FullSettings): void {
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > MAX_NODES) {
    throw new CiliumError('InvalidArgument', `nodes: found ${nodes}, expected 1 to ${MAX_NODES}`);
  }
  if (!(ETCD_SIZES as readonly number[]).includes(etcd)) {
    throw new CiliumError('InvalidArgument', `etcd: found ${etcd} members, expected ${ETCD_SIZES.join(', ')}`);
  }
}

function readSettings(file: string): LabSettings | undefined {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as LabSettings) : undefined;
}
