// SPDX-License-Identifier: Apache-2.0

/** Things of the kernel or of C that have to be given back: closed once, unusable afterwards, counted while open. */
import { CiliumError } from '../../errors/cilium-error.ts';

const counts = new Map<string, number>();

/** How many handles of each kind are open in this process; kinds without any are left out. */
export function openHandles(): Record<string, number> {
  return Object.fromEntries([...counts].filter(([, count]) => count > 0));
}

export abstract class Handle {
  readonly kind: string;
  readonly name: string;
  #closed = false;

  protected constructor(kind: string, name: string) {
    this.kind = kind;
    this.name = name;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Gives the resource back; a second call throws. */
  close(): void {
    this.assertOpen();
    this.#closed = true;
    counts.set(this.kind, counts.get(this.kind)! - 1);
    this.release();
  }

  protected assertOpen(): void {
    if (this.#closed) throw new CiliumError('Internal', `${this.kind} ${this.name} is closed`);
  }

  protected abstract release(): void;
}
