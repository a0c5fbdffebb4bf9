// SPDX-License-Identifier: Apache-2.0

/** Which Docker Engine the nodes of a lab run. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { CiliumError } from '../errors/cilium-error.ts';

/** Folders of an engine's programs: a folder with a dockerd in it, or one into which a package was unpacked. */
export function enginePath(engine: string | undefined): string[] {
  if (engine === undefined) return [];
  const folders = ['.', 'usr/sbin', 'usr/bin'].map((folder) => join(resolve(engine), folder));
  if (!folders.some((folder) => existsSync(join(folder, 'dockerd')))) {
    throw new CiliumError('NotFound', `there is no dockerd in ${engine}`);
  }
  return folders;
}
