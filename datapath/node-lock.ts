// SPDX-License-Identifier: Apache-2.0

/**
 * One agent a node. Two would write over each other: in the kernel, in the state folder and under the node's name in the
 * key-value store. So this is started before anything is written, and stopped after all else.
 */
import { CiliumError } from '../errors/cilium-error.ts';
import type { Component } from '../runtime/component.ts';
import { isErrno } from './ffi/errno.ts';
import { FolderLock } from './ffi/libc.ts';
import { pinFolders } from './loader/adoption.ts';
import { checkPreconditions } from './loader/preconditions.ts';

export class NodeLock implements Component {
  readonly name = 'node-lock';
  readonly #bpfRoot: string;
  #lock: FolderLock | undefined;

  /** Whoever holds the folder of the maps pinned below `bpfRoot` is the agent of this node. */
  constructor(bpfRoot: string) {
    this.#bpfRoot = bpfRoot;
  }

  /** Throws `Precondition` for a machine on which no agent can run, `InUse` when another one does. */
  start(): Promise<void> {
    return new Promise((resolve) => {
      checkPreconditions(this.#bpfRoot);
      this.#lock = lockFolder(pinFolders(this.#bpfRoot).mapDir);
      resolve();
    });
  }

  /** May be called twice. The lock of an agent that was killed ends with its process. */
  stop(): Promise<void> {
    this.#lock?.close();
    this.#lock = undefined;
    return Promise.resolve();
  }
}

/** Throws `InUse` when another process, or another lock of this one, has the folder. */
export function lockFolder(path: string): FolderLock {
  try {
    return new FolderLock(path);
  } catch (error) {
    if (!isErrno(error, 'EAGAIN')) throw error;
    throw new CiliumError('InUse', `another cilium-agent runs on this node (it holds ${path}); stop it first`);
  }
}
