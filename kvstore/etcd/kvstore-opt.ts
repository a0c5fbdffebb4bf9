// SPDX-License-Identifier: Apache-2.0

/** `--kvstore-opt` of the agent and of `cilium kvstore`: how to reach etcd, as people write it. */
import { readFile } from 'node:fs/promises';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { EtcdConfig } from './etcd-config.ts';

export interface KvstoreOpt {
  readonly addresses: readonly string[];
  /** The file of `etcd.config`. */
  readonly config: string | undefined;
}

/** Throws `InvalidArgument` for what is neither `etcd.address=URL` nor `etcd.config=FILE`, or both. */
export function parseKvstoreOpt(entries: readonly string[]): KvstoreOpt {
  const addresses: string[] = [];
  let config: string | undefined;
  for (const entry of entries) {
    const [, name, value] = /^([\w.]+)=(.+)$/.exec(entry) ?? [];
    if (name === 'etcd.address') addresses.push(value!);
    else if (name === 'etcd.config') config = value;
    else throw invalid(`--kvstore-opt ${entry}: expected etcd.address=URL or etcd.config=FILE`);
  }
  if (config !== undefined && addresses.length > 0) {
    throw invalid('--kvstore-opt: expected either etcd.address or etcd.config, found both');
  }
  return { addresses, config };
}

/** What they describe; reads the file. Throws `InvalidArgument`. */
export async function etcdConfigOf({ addresses, config }: KvstoreOpt): Promise<EtcdConfig> {
  if (config === undefined) {
    if (addresses.length > 0) return { endpoints: addresses };
    throw invalid(
      '--kvstore=etcd: found no address, expected --kvstore-opt etcd.address=URL, such as http://127.0.0.1:2379, ' +
        'or --kvstore-opt etcd.config=FILE',
    );
  }
  const { parseConfigFile } = await import('./etcd-config-file.ts');
  return parseConfigFile(config, await readConfig(config));
}

async function readConfig(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new CiliumError('InvalidArgument', `--kvstore-opt etcd.config=${path} cannot be read`, {}, cause);
  }
}

function invalid(message: string): CiliumError {
  return new CiliumError('InvalidArgument', message);
}
