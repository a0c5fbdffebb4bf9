// SPDX-License-Identifier: Apache-2.0

/** Every option of the agent: `--help`, `cilium config` and docs/configuration.md are made from this table. */
import { hostname } from 'node:os';
import { z } from 'zod';
import { DEFAULT_TUNNEL_PORT } from '../datapath/loader/tunnel-device.ts';
import { IpAddress, Prefix } from '../net/ip.ts';
import { describeOptions, option, type OptionValues } from '../runtime/config.ts';

const path = z.string().regex(/^\//, 'expected an absolute path');
const seconds = z.int().min(1).max(86_400);

function range(family: 4 | 6, longest: number): z.ZodType<string> {
  return z.string().refine(
    (text) => {
      try {
        const prefix = Prefix.parse(text);
        return prefix.family === family && prefix.length <= longest;
      } catch {
        return false;
      }
    },
    {
      error: `expected an IPv${family} range such as ${family === 4 ? '10.15.0.0/16' : 'fd15::/64'}, of length at most /${longest}`,
    },
  );
}

function addressOrAuto(family: 4 | 6): z.ZodType<string> {
  return z
    .string()
    .refine((text) => text === 'auto' || (IpAddress.isValid(text) && IpAddress.parse(text).family === family), {
      error: `expected an IPv${family} address, or auto`,
    });
}

export const AGENT_OPTIONS = {
  config: option({
    schema: z.union([path, z.literal('')]),
    default: '',
    description: 'File with options, JSON or lines of "key: value".',
  }),
  nodeName: option({
    schema: z
      .string()
      .regex(/^[a-zA-Z0-9][a-zA-Z0-9.-]{0,252}$/, 'expected a host name: letters, digits, dots and dashes'),
    default: hostname(),
    description: "Name of this node; the machine's host name unless given.",
  }),
  ipv4Range: option({
    schema: range(4, 28),
    default: '10.15.0.0/16',
    description: 'Where networks made without --subnet get their IPv4 addresses from; must differ between nodes.',
  }),
  ipv6Range: option({
    schema: range(6, 112),
    default: 'fd15::/64',
    description:
      'Where containers get IPv6 addresses from when their network names no IPv6 subnet; must differ between nodes.',
  }),
  dockerHost: option({
    schema: z.string().regex(/^unix:\/\/\//, 'expected unix:///path of the Docker socket'),
    default: 'unix:///var/run/docker.sock',
    description: 'Socket of the Docker engine.',
  }),
  pluginSocket: option({
    schema: path,
    default: '/run/docker/plugins/cilium.sock',
    description: 'Where Docker finds the network and IPAM driver.',
  }),
  runDir: option({
    schema: path,
    default: '/var/run/cilium',
    description: 'Folder of the API socket and the lock file.',
  }),
  stateDir: option({
    schema: path,
    default: '/var/lib/cilium',
    description: 'Folder of everything that has to survive a restart: networks, leases, endpoints, identities, rules.',
  }),
  bpfRoot: option({
    schema: path,
    default: '/sys/fs/bpf',
    description: 'Where the bpffs is mounted that holds our maps and programs.',
  }),
  staticCnpPath: option({
    schema: z.union([path, z.literal('')]),
    default: '',
    description:
      'Directory whose .yaml, .yml and .json files are policy: rules and resources as `cilium policy import` takes them. Changes are followed; a file with errors keeps its last rules.',
  }),
  enablePolicy: option<'default' | 'always' | 'never'>({
    schema: z.enum(['default', 'always', 'never']),
    default: 'default',
    description:
      'When policy is enforced: once a rule selects an endpoint (default), for every endpoint (always), or never. `cilium config` changes it.',
  }),
  allowLocalhost: option<'auto' | 'always' | 'policy'>({
    schema: z.enum(['auto', 'always', 'policy']),
    default: 'auto',
    description:
      'Whether the host may always reach its containers (always) or needs a rule once ingress is enforced (policy, auto).',
  }),
  l7Rules: option<'refuse' | 'drop'>({
    schema: z.enum(['refuse', 'drop']),
    default: 'refuse',
    description:
      'What becomes of rules that need a proxy (L7 rules, server names, TLS, listeners), as there is none yet: they are refused, or taken in, and what the proxy would have to judge is dropped (reason 178). Rules taken in earlier stay, and drop.',
  }),
  kvstore: option<'embedded' | 'etcd'>({
    schema: z.enum(['embedded', 'etcd']),
    default: 'embedded',
    description: 'Where identities are kept: in a store of this node (embedded) or in one that nodes share (etcd).',
  }),
  kvstoreLeaseTtl: option({
    schema: z.int().min(25).max(86_400),
    default: 900,
    unit: 's',
    description:
      'How long what a node has told the others stays in the key-value store when the node has gone, or is cut off from it.',
  }),
  kvstoreConnectivityTimeout: option({
    schema: z.int().min(1).max(3_600),
    default: 120,
    unit: 's',
    description:
      'How long the first start on a node waits for etcd before it fails. Later starts go on after 5 s, with what was known.',
  }),
  kvstoreOpt: option({
    schema: z.array(z.string()),
    default: [] as string[],
    description:
      'How to reach etcd: etcd.address=URL, once or several times, or etcd.config=FILE with endpoints, trusted-ca-file, cert-file, key-file, username, password, namespace.',
  }),
  networkScope: option<'local' | 'global'>({
    schema: z.enum(['local', 'global']),
    default: 'local',
    description:
      "What Docker shows as the scope of our networks. global needs Docker 26 or newer outside of a swarm; it is the engine's word only: the network is created on each node either way. Docker asks for it once, so restart Docker after a change.",
  }),
  clusterName: option({
    schema: z
      .string()
      .regex(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, 'expected 1 to 32 lower-case letters, digits and dashes'),
    default: 'default',
    description: 'With etcd: the cluster that this node belongs to; nodes of others are not seen.',
  }),
  routingMode: option<'tunnel' | 'native'>({
    schema: z.enum(['tunnel', 'native']),
    default: 'tunnel',
    description:
      'With etcd: how packets reach containers of other nodes: in VXLAN (tunnel), or as they are, routed by the nodes on one link and by the network (native). The same on all nodes.',
  }),
  tunnelPort: option({
    schema: z.int().min(1).max(65_535),
    default: DEFAULT_TUNNEL_PORT,
    unit: 'UDP',
    description: 'With etcd and tunnels: the UDP port of VXLAN, the same on all nodes.',
  }),
  healthPort: option({
    schema: z.int().min(0).max(65_535),
    default: 4240,
    unit: 'TCP',
    description:
      "With etcd: the port at which nodes ask each other whether they are there, the same on all nodes; 0: they do not. The default is Cilium's.",
  }),
  underlayProtocol: option<'auto' | 'ipv4' | 'ipv6'>({
    schema: z.enum(['auto', 'ipv4', 'ipv6']),
    default: 'auto',
    description:
      'With etcd: by which of their addresses nodes reach each other, the same on all nodes; auto is IPv4 if this node has it.',
  }),
  ipv4Node: option({
    schema: addressOrAuto(4),
    default: 'auto',
    description:
      'With etcd: the IPv4 address of this node towards others, which a device of it must have; auto: one on a device with a default route, else any.',
  }),
  ipv6Node: option({
    schema: addressOrAuto(6),
    default: 'auto',
    description: 'With etcd: the IPv6 address of this node towards others, as for IPv4.',
  }),
  clusterPoolIpv4Cidr: option({
    schema: z.union([range(4, 28), z.literal('')]),
    default: '',
    description: 'With etcd: the range from which each node takes one of its own, instead of --ipv4-range.',
  }),
  clusterPoolIpv4MaskSize: option({
    schema: z.int().min(1).max(28),
    default: 20,
    unit: 'bits',
    description:
      'Length of the ranges taken from --cluster-pool-ipv4-cidr. A Docker network takes a /24 of the range, or all of it if it is no larger.',
  }),
  clusterPoolIpv6Cidr: option({
    schema: z.union([range(6, 112), z.literal('')]),
    default: '',
    description: 'With etcd: the range from which each node takes one of its own, instead of --ipv6-range.',
  }),
  clusterPoolIpv6MaskSize: option({
    schema: z.int().min(1).max(112),
    default: 104,
    unit: 'bits',
    description:
      'Length of the ranges taken from --cluster-pool-ipv6-cidr. A Docker network takes a /112 of the range, or all of it.',
  }),
  labels: option({
    schema: z.array(z.string()),
    default: [] as string[],
    description:
      'Label patterns [source:][!]regexp that count for identities, after the built-in ones; "!" leaves labels out.',
  }),
  networkLabel: option({
    schema: z.boolean(),
    default: false,
    description:
      "Gives containers the label docker:network=<the Docker network's name>, so that policy can name networks.",
  }),
  monitorAggregation: option<'none' | 'low' | 'medium' | 'maximum'>({
    schema: z.enum(['none', 'low', 'medium', 'maximum']),
    default: 'medium',
    description:
      'How much of the traffic the kernel reports: medium is one event for each new state of a connection and every 5 s.',
  }),
  mtu: option({
    schema: z.int().min(0).max(65_535),
    default: 0,
    unit: 'bytes',
    description:
      'MTU of containers whose network sets none; 0: the smallest of the devices with a default route, else 1500.',
  }),
  collectInterval: option({
    schema: seconds,
    default: 60,
    unit: 's',
    description: 'How often what Docker does not know any more is looked for; removed when missing twice.',
  }),
  logLevel: option<'error' | 'warn' | 'info' | 'debug'>({
    schema: z.enum(['error', 'warn', 'info', 'debug']),
    default: 'info',
    description: 'What is logged.',
  }),
  logFormat: option<'text' | 'json'>({
    schema: z.enum(['text', 'json']),
    default: 'text',
    description: 'Form of log lines.',
  }),
} as const;

export type AgentOptions = OptionValues<typeof AGENT_OPTIONS>;

/** The text of `cilium-agent --help`. */
export function helpText(): string {
  const lines = describeOptions(AGENT_OPTIONS).map(({ flag, variable, default: value, unit, values, description }) => {
    const shown = Array.isArray(value) ? value.join(',') : String(value);
    return `  ${flag}\n      ${description}\n      ${values === undefined ? '' : `Values: ${values}. `}Default: ${shown === '' ? '(none)' : shown}${unit ? ` ${unit}` : ''}. Environment: ${variable}\n`;
  });
  return `Usage: cilium-agent [--option=value ...]\n\nNetwork driver, IPAM driver and policy agent of one Docker node.\n\n${lines.join('')}`;
}
