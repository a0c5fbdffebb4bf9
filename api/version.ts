// SPDX-License-Identifier: Apache-2.0

/** The version of what is running: that of the nearest package.json above this file, in a clone as in what was built. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { VersionInfo } from './models.ts';

export function ownVersion(): VersionInfo {
  return {
    Version: packageVersion(import.meta.dirname),
    Runtime: `node ${process.version}`,
    Arch: `${process.platform}/${process.arch}`,
  };
}

function packageVersion(folder: string): string {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string }).version;
  } catch {
    const parent = dirname(folder);
    return parent === folder ? 'unknown' : packageVersion(parent);
  }
}
