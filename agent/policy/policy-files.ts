// SPDX-License-Identifier: Apache-2.0

/** The policy files in a folder and below it, with what tells whether they changed since they were last looked at. */
import { readdir, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CiliumError } from '../../errors/cilium-error.ts';
import { isErrno } from '../../runtime/state-file.ts';

/** Nobody reads more of a folder's policy than this; behind it is a loop or a mistake. */
export const MAX_FILES = 10_000;
export const MAX_FOLDERS = 1_000;
const MAX_DEPTH = 16;

/** Not those that begin with a dot or are an editor's: `.a.yaml.swp`, `a.yaml~`, `#a.yaml#`, `.git/`. */
const POLICY_FILE = /^[^.#].*\.(json|ya?ml)$/i;
const HIDDEN = /^\./;

export interface PolicyFileEntry {
  readonly path: string;
  /** Another one after every change of the content; undefined: there is something of this name that cannot be read. */
  readonly signature: string | undefined;
}

export interface PolicyFolderListing {
  /** Which folder this is, whatever its name. */
  readonly identity: string;
  /** In the order of their names. */
  readonly files: readonly PolicyFileEntry[];
  /** Folders in which a change matters, by a name for each that no other folder ever gets. */
  readonly folders: ReadonlyMap<string, string>;
}

/** Follows links. Throws when the folder, or one in it, cannot be read. */
export async function listPolicyFiles(root: string): Promise<PolicyFolderListing> {
  const files: PolicyFileEntry[] = [];
  const folders = new Map<string, string>();

  const walk = async (folder: string, depth: number): Promise<string> => {
    const identity = identityOf(await stat(folder, { bigint: true }));
    if (folders.has(identity)) return identity; // by another way, or a loop
    folders.set(identity, folder);
    if (folders.size > MAX_FOLDERS || depth > MAX_DEPTH) throw tooMuch(root);
    const entries = await readdir(folder, { withFileTypes: true });
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { name, ...entry } of entries.map((dirent) => ({
      name: dirent.name,
      isLink: dirent.isSymbolicLink(),
    }))) {
      if (HIDDEN.test(name)) continue;
      const path = join(folder, name);
      const status = await stat(path, { bigint: true }).catch((error: unknown) => {
        if (isErrno(error, 'ENOENT') || isErrno(error, 'ELOOP')) return undefined;
        throw error;
      });
      if (status?.isDirectory() === true) {
        await walk(path, depth + 1);
      } else if (POLICY_FILE.test(name)) {
        if (files.length >= MAX_FILES) throw tooMuch(root);
        const isFile = status?.isFile() === true;
        files.push({ path, signature: isFile ? `${identityOf(status)} ${status.size} ${status.ctimeNs}` : undefined });
        if (entry.isLink && isFile) await addTarget(path, folders);
      }
    }
    return identity;
  };

  return { identity: await walk(root, 0), files, folders };
}

/** What a link leads to may change without a change where the link is. */
async function addTarget(link: string, folders: Map<string, string>): Promise<void> {
  const folder = dirname(await realpath(link));
  folders.set(identityOf(await stat(folder, { bigint: true })), folder);
}

function identityOf({ dev, ino }: { readonly dev: bigint; readonly ino: bigint }): string {
  return `${dev}:${ino}`;
}

function tooMuch(root: string): CiliumError {
  const bounds = `${MAX_FILES} policy files in ${MAX_FOLDERS} folders, ${MAX_DEPTH} deep`;
  return new CiliumError('Precondition', `${root} holds more than can be watched (${bounds})`);
}
