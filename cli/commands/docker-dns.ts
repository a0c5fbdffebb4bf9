// SPDX-License-Identifier: Apache-2.0

/**
 * `cilium docker-dns`: has Docker ask the agent for names that it does not know itself, those of containers on other nodes.
 *
 * It is an entry in Docker's own configuration: the address of this node's router in front of the list `dns`. Servers
 * behind it are asked while the agent is away; where nobody has named any, those of the node itself are put there.
 */
import { stat } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import type { Command } from 'commander';
import type { ClusterNodeStatus } from '../../api/node-models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import { readTextFile, writeFileAtomic } from '../../runtime/state-file.ts';
import type { Context } from '../context.ts';

/** Anybody may read what Docker reads, as it is when Docker's packages make it. */
const FILE_MODE = 0o644;
const MODE_BITS = 0o777;
const ROUTER_TYPE = 'CiliumInternalIP';

interface Options {
  readonly file: string;
  readonly resolvConf: string;
  readonly remove?: boolean;
}

export function register(program: Command, context: Context): void {
  program
    .command('docker-dns')
    .description("Have Docker ask the agent for names of containers on other nodes, by its configuration's list `dns`")
    .option('--file <path>', "Docker's configuration", '/etc/docker/daemon.json')
    .option('--resolv-conf <path>', 'where the servers behind come from, when none are named yet', '/etc/resolv.conf')
    .option('--remove', 'take the entry out again')
    .action((options: Options) => run(context, options));
}

async function run(context: Context, options: Options): Promise<void> {
  const { file } = options;
  const router = routerOf(await context.client().nodes());
  const configuration = parse(file, (await readTextFile(file)) ?? '{}');
  const before = namedServers(file, configuration);
  const others = (before ?? []).filter((server) => server !== router);
  let servers: string[];
  if (options.remove === true) servers = others;
  else servers = [router, ...(before === undefined ? await nodeServers(options.resolvConf) : others)];
  if (servers.join() === (before ?? []).join()) {
    context.print(`${file} says so already: nothing to do\n`);
    return;
  }
  const dns = servers.length > 0 ? servers : undefined; // undefined is not written
  await writeFileAtomic(file, `${JSON.stringify({ ...configuration, dns }, undefined, 2)}\n`, await modeOf(file));
  context.print(`${file}: dns is ${dns?.join(', ') ?? 'gone'}; restart Docker for it\n`);
}

/** Docker 20.10 asks servers by IPv4 from containers without IPv6, too, so it is that address. */
function routerOf({ self, 'nodes-added': nodes }: ClusterNodeStatus): string {
  const addresses = nodes.find(({ name }) => name === self)?.['secondary-addresses'] ?? [];
  const router = addresses.find(({ ip, 'address-type': type }) => type === ROUTER_TYPE && isIPv4(ip));
  if (router !== undefined) return router.ip;
  throw new CiliumError(
    'Precondition',
    `${self} has no router address, so it answers for no names: start the agent with --kvstore=etcd`,
  );
}

function parse(file: string, text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (cause) {
    throw new CiliumError(
      'InvalidArgument',
      `${file} is not valid JSON: Docker would not start with it either`,
      {},
      cause,
    );
  }
  throw new CiliumError('InvalidArgument', `${file}: expected an object of Docker's options`);
}

function namedServers(file: string, { dns }: Record<string, unknown>): string[] | undefined {
  if (dns === undefined) return undefined;
  if (Array.isArray(dns) && dns.every((one) => typeof one === 'string')) return dns;
  throw new CiliumError('InvalidArgument', `${file}: dns: expected a list of addresses`);
}

/** Those that containers can reach: what listens on the node's loopback is not among them. */
async function nodeServers(path: string): Promise<string[]> {
  const text = (await readTextFile(path)) ?? '';
  const named = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] ?? '');
  return named.filter((address) => isIPv4(address) && !address.startsWith('127.'));
}

async function modeOf(file: string): Promise<number> {
  return await stat(file).then(
    ({ mode }) => mode & MODE_BITS,
    () => FILE_MODE,
  );
}
