// SPDX-License-Identifier: Apache-2.0

/** What a tree has to hold before agents can run in a lab. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { CiliumError } from '../errors/cilium-error.ts';

/** What every agent loads into the kernel; built from bpf-src/. */
const PROGRAM = 'bpf-src/build/bpf_lxc.o';

/** Throws `Precondition` with the remedy; `home`: the tree that bin/ is in. */
export function requirePrograms(home: string): void {
  if (existsSync(join(home, PROGRAM))) return;
  throw new CiliumError(
    'Precondition',
    `agents need their programs for the kernel, and there is no ${PROGRAM}: run 'make build' in ${resolve(home)}, or leave the agents out with --no-agent`,
  );
}
