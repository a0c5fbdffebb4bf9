// SPDX-License-Identifier: Apache-2.0

/**
 * Keeps a second agent from working on the same node: a name in the kernel's abstract socket space, which is one for a
 * network namespace and goes with the process, however that ends.
 */
import { createServer, type Server } from 'node:net';
import { CiliumError } from '../errors/cilium-error.ts';
import type { Component } from '../runtime/component.ts';
import { isErrno } from '../runtime/state-file.ts';

const LOCK_NAME = '\0cilium-agent';

export class InstanceLock implements Component {
  readonly name = 'instance-lock';
  #server: Server | undefined;

  async start(): Promise<void> {
    const server = createServer((socket) => socket.destroy());
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject).listen(LOCK_NAME, resolve);
      });
    } catch (error) {
      if (!isErrno(error, 'EADDRINUSE')) throw error;
      throw new CiliumError('InUse', 'another cilium-agent runs on this node; stop it first');
    }
    this.#server = server;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server) await new Promise((resolve) => server.close(resolve));
  }
}
