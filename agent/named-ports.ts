// SPDX-License-Identifier: Apache-2.0

/**
 * Names of ports, from labels to the policy repository, for as long as an endpoint has them: those of an identity that
 * nobody has any more would stand against the names of others.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { LabelSet } from '../identity/label-set.ts';
import type { NumericIdentity } from '../identity/numeric-identity.ts';
import { portsOfLabels } from '../policy/named-ports.ts';
import type { NamedPorts } from '../policy/repository.ts';
import type { Logger } from '../runtime/logger.ts';

const NO_PORTS: NamedPorts = new Map();

export interface PortNamesDeps {
  readonly consumer: { setNamedPorts(id: NumericIdentity, ports: NamedPorts): void };
  readonly log: Logger;
}

interface Holder {
  readonly id: NumericIdentity;
  readonly ports: NamedPorts;
  count: number;
}

export class PortNames {
  readonly #deps: PortNamesDeps;
  /** By the labels that an identity was allocated for. */
  readonly #holders = new Map<string, Holder>();

  constructor(deps: PortNamesDeps) {
    this.#deps = deps;
  }

  /** Throws `InvalidArgument` when a label that names a port cannot be understood: the port would stay closed unseen. */
  static check(labels: LabelSet): void {
    const { problems } = portsOfLabels(labels);
    if (problems.length === 0) return;
    throw new CiliumError('InvalidArgument', `${problems.join('; ')}; correct the label of the container or its image`);
  }

  /** One more endpoint has the identity. */
  hold(id: NumericIdentity, labels: LabelSet): void {
    const key = labels.toString();
    const known = this.#holders.get(key);
    if (known !== undefined) {
      known.count++;
      return;
    }
    const { ports, problems } = portsOfLabels(labels);
    // Of an endpoint that started when its labels were still taken for something else.
    for (const problem of problems) this.#deps.log.warn('Label names no port', { identity: id, problem });
    if (ports.size === 0) return;
    this.#warnOfConflicts(id, ports);
    this.#holders.set(key, { id, ports, count: 1 });
    this.#deps.consumer.setNamedPorts(id, ports);
  }

  /** One endpoint less has the identity of these labels; answers whether names went with it. */
  drop(labels: string): boolean {
    const known = this.#holders.get(labels);
    if (known === undefined || --known.count > 0) return false;
    this.#holders.delete(labels);
    this.#deps.consumer.setNamedPorts(known.id, NO_PORTS);
    return true;
  }

  /** The identity of these labels has another number now. */
  renumber(labels: string, id: NumericIdentity): void {
    const known = this.#holders.get(labels);
    if (known === undefined) return;
    this.#deps.consumer.setNamedPorts(known.id, NO_PORTS);
    this.#holders.set(labels, { ...known, id });
    this.#deps.consumer.setNamedPorts(id, known.ports);
  }

  #warnOfConflicts(id: NumericIdentity, ports: NamedPorts): void {
    for (const [name, { protocol, port }] of ports) {
      for (const { id: other, ports: others } of this.#holders.values()) {
        const found = others.get(name);
        if (found?.protocol !== protocol || found.port === port) continue;
        this.#deps.log.warn(
          'A port name has two numbers: egress rules with it allow nothing until one of them is gone',
          {
            name,
            ports: [found.port, port],
            identities: [other, id],
          },
        );
        break;
      }
    }
  }
}
