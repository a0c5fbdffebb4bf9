// SPDX-License-Identifier: Apache-2.0

/**
 * The other nodes as they were last known, in `nodes.json` of the state folder: an agent that starts while the store is
 * away still knows whom to send to.
 */
import { join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../runtime/clock.ts';
import { Controller } from '../runtime/controller.ts';
import type { Logger } from '../runtime/logger.ts';
import { readJsonFile, writeJsonFile } from '../runtime/state-file.ts';
import { decodeNode, encodeNode, nodeKey, type ClusterNode } from './node.ts';

/** Nodes come in crowds; the file is written once for all that came within this time. */
const GATHER_MS = 1_000;

const NodesFile = z.object({ nodes: z.array(z.object({ key: z.string(), value: z.string() })) });

export interface RememberedNodesOptions {
  readonly stateDir: string;
  readonly nodes: () => Iterable<ClusterNode>;
  readonly log: Logger;
  readonly clock: Clock;
}

export class RememberedNodes {
  readonly #options: RememberedNodesOptions;
  readonly #path: string;
  readonly #writer: Controller;
  #isDirty = false;

  constructor(options: RememberedNodesOptions) {
    this.#options = options;
    this.#path = join(options.stateDir, 'nodes.json');
    this.#writer = new Controller({
      name: 'remember-nodes',
      run: async (signal) => {
        await options.clock.sleep(GATHER_MS, signal);
        await this.#write();
      },
      log: options.log,
      clock: options.clock,
    });
  }

  /** What the file has; a node in it that cannot be read is left out. */
  async load(): Promise<ClusterNode[]> {
    const { nodes } = (await readJsonFile(this.#path, NodesFile)) ?? { nodes: [] };
    this.#writer.start();
    return nodes.flatMap(({ key, value }) => {
      try {
        return [decodeNode(key, value)];
      } catch (error) {
        this.#options.log.warn('Remembered node left out', { key, error });
        return [];
      }
    });
  }

  /** Something changed: the file is written soon. */
  changed(): void {
    this.#isDirty = true;
    this.#writer.trigger();
  }

  /** Writes what has not been written yet. */
  async stop(): Promise<void> {
    await this.#writer.stop();
    if (this.#isDirty) await this.#write();
  }

  async #write(): Promise<void> {
    this.#isDirty = false;
    const nodes = Array.from(this.#options.nodes(), (node) => {
      return { key: nodeKey(node.cluster, node.name), value: encodeNode(node) };
    });
    await writeJsonFile(this.#path, { nodes }).catch((error: unknown) => {
      this.#isDirty = true;
      throw error;
    });
  }
}
