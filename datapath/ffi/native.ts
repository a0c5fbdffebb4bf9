// SPDX-License-Identifier: Apache-2.0

/** How functions of C get a TypeScript signature, and how they are called on a worker thread. */
import koffi from 'koffi';
import type * as Koffi from 'koffi';
import { CiliumError } from '../../errors/cilium-error.ts';
import { Handle } from './handle.ts';

/** A pointer of C; null when it is NULL. */
export type Pointer = bigint | null;

export type Native<A extends unknown[], R> = Koffi.KoffiFunc<(...args: A) => R>;

export interface Library {
  /** @param definition the C prototype; A and R say how its arguments and result look from here */
  readonly declare: <A extends unknown[], R>(definition: string) => Native<A, R>;
  readonly handle: Koffi.LibraryHandle;
}

/** Loads a shared library; `remedy` says what to do when it is not there. */
export function openLibrary(file: string, remedy: string): Library {
  let handle: Koffi.LibraryHandle;
  try {
    handle = koffi.load(file);
  } catch (cause) {
    throw new CiliumError('Precondition', `${file} cannot be loaded; ${remedy}`, { file }, cause);
  }
  return {
    handle,
    declare: (definition) => handle.func(definition),
  };
}

/**
 * The result of the call made on a worker thread. The buffers are shared with it: leave them alone until then. errno
 * belongs to that thread and is lost, so only functions that return it themselves say why they failed.
 */
export function callAsync<A extends unknown[], R>(call: Native<A, R>, ...args: A): Promise<R> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, result: R): void => {
      if (error === null) resolve(result);
      else reject(error);
    };
    (call.async as (...all: unknown[]) => void)(...args, done);
  });
}

/** Memory of C's heap: for structures that point to it, as JavaScript's own buffers may move. */
export class NativeMemory extends Handle {
  readonly address: bigint;
  /** The memory itself; not to be used after `close`. */
  readonly bytes: Buffer;

  constructor(name: string, length: number) {
    super('memory', name);
    this.address = koffi.alloc('uint8_t', length) as bigint;
    this.bytes = Buffer.from(koffi.view(this.address, length)).fill(0);
  }

  protected release(): void {
    koffi.free(this.address);
  }
}
