// SPDX-License-Identifier: Apache-2.0

/**
 * What the agent's REST API carries: one schema a model, the TypeScript type made from it.
 *
 * Field names are those of Cilium's API, so that scripts with `-o json` carry over. Requests are strict: an unknown field is
 * refused. The client imports only the types (loading zod costs more than a whole command may take).
 */
import { z } from 'zod';
import { nodeElement } from './node-models.ts';

// ---- shared -----------------------------------------------------------------------------------------------------

/** `source:key=value` texts. */
export const labels = z.array(z.string().min(1));

/** Name of an option to its value, both as `cilium config` shows them. */
export const configurationMap = z.record(z.string(), z.string());
export type ConfigurationMap = z.infer<typeof configurationMap>;

/** The body of every answer with a status of 400 or more. */
export const apiError = z.object({
  code: z.string(),
  message: z.string(),
  /** Facts for programs, such as every problem of a refused policy. */
  details: z.record(z.string(), z.unknown()).optional(),
});
export type ApiError = z.infer<typeof apiError>;

// ---- status and version -----------------------------------------------------------------------------------------

export const status = z.object({
  state: z.enum(['Ok', 'Warning', 'Failure', 'Disabled']),
  msg: z.string().optional(),
});
export type Status = z.infer<typeof status>;

export const controllerStatus = z.object({
  name: z.string(),
  status: z.object({
    'success-count': z.number(),
    'failure-count': z.number(),
    'consecutive-failure-count': z.number(),
    /** RFC 3339; absent: never. */
    'last-success-timestamp': z.string().optional(),
    'last-failure-timestamp': z.string().optional(),
    'last-failure-msg': z.string().optional(),
  }),
});
export type ControllerStatus = z.infer<typeof controllerStatus>;

export const ipamStatus = z.object({
  /** `IPv4: 5/65534 allocated from 10.15.0.0/16, IPv6: …` */
  status: z.string(),
  /** Address to its owner. */
  allocations: z.record(z.string(), z.string()),
});

/** The ring buffer of events: `npages` pages of `pagesize` bytes, written on `cpus` CPUs. */
export const monitorStatus = z.object({
  cpus: z.number(),
  npages: z.number(),
  pagesize: z.number(),
  lost: z.number(),
  unknown: z.number(),
});

export const statusResponse = z.object({
  cilium: status,
  kvstore: status.optional(),
  'container-runtime': status.optional(),
  nodeMonitor: monitorStatus.optional(),
  ipam: ipamStatus.optional(),
  routing: z
    .object({
      'inter-host-routing-mode': z.enum(['Native', 'Tunnel']),
      'intra-host-routing-mode': z.enum(['BPF', 'Legacy']),
      'tunnel-protocol': z.enum(['vxlan']).optional(),
    })
    .optional(),
  cluster: z
    .object({
      /** Whether nodes are probed here; which of them answer is what the health API tells. */
      ciliumHealth: status,
      /** The name of this node. */
      self: z.string(),
      nodes: z.array(nodeElement),
    })
    .optional(),
  'attach-mode': z.enum(['tc', 'tcx']).optional(),
  'datapath-mode': z.enum(['veth']).optional(),
  masquerading: z
    .object({
      enabled: z.boolean(),
      mode: z.enum(['BPF']),
      /** Devices whose packets are masqueraded. */
      devices: z.array(z.string()),
      enabledProtocols: z.object({ ipv4: z.boolean(), ipv6: z.boolean() }),
    })
    .optional(),
  'clock-source': z.object({ mode: z.enum(['ktime']) }).optional(),
  controllers: z.array(controllerStatus).optional(),
  'identity-range': z.object({ 'min-identity': z.number(), 'max-identity': z.number() }).optional(),
  'bpf-maps': z.object({ maps: z.array(z.object({ name: z.string(), size: z.number() })) }).optional(),
});
export type StatusResponse = z.infer<typeof statusResponse>;

export const versionInfo = z.object({
  Version: z.string(),
  /** Of the JavaScript runtime, as in `node v24.1.0`. */
  Runtime: z.string(),
  /** Operating system and CPU, as in `linux/x64`. */
  Arch: z.string(),
});
export type VersionInfo = z.infer<typeof versionInfo>;

// ---- configuration ----------------------------------------------------------------------------------------------

export const daemonConfigurationSpec = z.strictObject({
  options: configurationMap.optional(),
  'policy-enforcement': z.enum(['default', 'always', 'never']).optional(),
});
export type DaemonConfigurationSpec = z.infer<typeof daemonConfigurationSpec>;

export const daemonConfiguration = z.object({
  spec: daemonConfigurationSpec,
  status: z.object({
    /** Every option that can be changed while the agent runs, with its present value. */
    realized: daemonConfigurationSpec.required(),
    /** What the agent was started with, defaults included. */
    daemonConfigurationMap: z.record(z.string(), z.unknown()),
    nodeMonitor: monitorStatus.optional(),
  }),
});
export type DaemonConfiguration = z.infer<typeof daemonConfiguration>;

// ---- identities and endpoints -----------------------------------------------------------------------------------

export const identity = z.object({ id: z.number(), labels });
export type Identity = z.infer<typeof identity>;

export const ENDPOINT_STATES = [
  'creating',
  'waiting-for-identity',
  'regenerating',
  'ready',
  'not-ready',
  'restoring',
  'disconnecting',
] as const;
export type EndpointState = (typeof ENDPOINT_STATES)[number];

export const endpointPolicy = z.object({
  'policy-revision': z.number(),
  'policy-enabled': z.enum(['none', 'ingress', 'egress', 'both']),
});

/** Labels that a person added to, or took from, those of the container with `cilium endpoint labels`. */
export const labelConfigurationSpec = z.strictObject({ user: labels, disabled: labels.default([]) });
export type LabelConfigurationSpec = z.infer<typeof labelConfigurationSpec>;

export const labelConfigurationStatus = z.object({
  realized: labelConfigurationSpec,
  /** What the identity is made of. */
  'security-relevant': labels,
  /** Labels of the container that the label filter keeps out of the identity. */
  derived: labels,
});
export type LabelConfigurationStatus = z.infer<typeof labelConfigurationStatus>;

export const labelConfiguration = z.object({ spec: labelConfigurationSpec, status: labelConfigurationStatus });
export type LabelConfiguration = z.infer<typeof labelConfiguration>;

export const endpoint = z.object({
  id: z.number(),
  status: z.object({
    state: z.enum(ENDPOINT_STATES),
    'external-identifiers': z.object({
      'container-id': z.string().optional(),
      'container-name': z.string().optional(),
      'docker-endpoint-id': z.string().optional(),
      'docker-network-id': z.string().optional(),
    }),
    /** Absent until the labels are known. */
    identity: identity.optional(),
    labels: labelConfigurationStatus,
    networking: z.object({
      addressing: z.array(z.object({ ipv4: z.string().optional(), ipv6: z.string().optional() })),
      'host-mac': z.string(),
      mac: z.string(),
      'interface-name': z.string(),
      'interface-index': z.number(),
    }),
    /** `spec` is what the rules ask for, `realized` what the kernel is known to hold. */
    policy: z.object({ spec: endpointPolicy, realized: endpointPolicy }),
    health: z.object({
      overallHealth: z.enum(['OK', 'Bootstrap', 'Pending', 'Warning', 'Failure', 'Disabled']),
      connected: z.boolean(),
    }),
    /** Changes of state, newest first. */
    log: z.array(
      z.object({
        timestamp: z.string(),
        code: z.enum(['OK', 'Failure']),
        state: z.enum(ENDPOINT_STATES),
        message: z.string(),
      }),
    ),
  }),
});
export type Endpoint = z.infer<typeof endpoint>;

// ---- policy -----------------------------------------------------------------------------------------------------

/** `policy` is the JSON text of an array of rules: the form in which Cilium's API carries them. */
export const policy = z.object({ revision: z.number(), policy: z.string() });
export type Policy = z.infer<typeof policy>;

/** Items with the file and the lines where they were written (policy/resources/policy-item.ts). */
export const policySources = z.strictObject({
  sources: z.array(
    z.strictObject({
      file: z.string().min(1).max(4_096).optional(),
      items: z.array(z.strictObject({ value: z.unknown(), lines: z.array(z.int().positive()).optional() })),
    }),
  ),
});
export type PolicySources = z.infer<typeof policySources>;

/**
 * An array of rules and resources, (as in Cilium) a JSON string that holds one, or sources. What the rules mean is
 * checked by the policy room.
 */
export const policyImport = z.union(
  [z.array(z.unknown()), z.string(), policySources],
  'expected an array of rules or {"sources": [{"file": …, "items": [{"value": …, "lines": […]}]}]}',
);
export type PolicyImport = z.infer<typeof policyImport>;

/** `brief`: the answer carries no rules, which costs nothing however many there are. */
export const policyDeleteQuery = z.strictObject({ brief: z.stringbool().optional() });

export const policyImportQuery = policyDeleteQuery.extend({
  /** Everything is checked and nothing is changed; the answer is a plan. */
  'dry-run': z.stringbool().optional(),
  /** Rules that carry the labels of an imported rule give way to it. */
  replace: z.stringbool().optional(),
  /** Rules that carry these labels (comma-separated) give way to the import. */
  'replace-with-labels': z.string().optional(),
});

const policyElement = z.object({
  /** Its name; absent for a rule. */
  'cidr-group': z.string().optional(),
  file: z.string().optional(),
  line: z.number().optional(),
  labels,
});
export type PolicyElementModel = z.infer<typeof policyElement>;

/** What an import would do: the answer with `dry-run`. */
export const policyPlan = z.object({
  /** As it is and stays. */
  revision: z.number(),
  added: z.array(policyElement),
  removed: z.array(policyElement),
  /** Policies that would not fit into their maps: these identities would keep what they have. */
  'too-large': z.array(z.object({ identities: z.array(identity), entries: z.number(), 'max-entries': z.number() })),
});
export type PolicyPlan = z.infer<typeof policyPlan>;

/** Which rules to delete: those that carry all these labels; an empty array means every rule. */
export const policyDelete = labels;

export const policyDeleted = policy.extend({
  deleted: z.number(),
  /** Files that the agent watches and whose rules carry the labels, too: they stay. */
  'watched-files': z.array(z.string()).optional(),
});
export type PolicyDeleted = z.infer<typeof policyDeleted>;

// ---- BPF maps ---------------------------------------------------------------------------------------------------

export const bpfMapEntry = z.object({ key: z.string(), value: z.string() });
export type BpfMapEntry = z.infer<typeof bpfMapEntry>;

export const bpfMap = z.object({
  path: z.string(),
  type: z.string(),
  'max-entries': z.number(),
  /** Absent where the word means nothing: the event ring, counters. */
  'num-entries': z.number().optional(),
  /** Bytes that the kernel accounts for it. */
  memory: z.number(),
  /** What the kernel holds; only in the answer for one map, and absent for maps that are not shown entry by entry. */
  cache: z.array(bpfMapEntry).optional(),
});
export type BpfMap = z.infer<typeof bpfMap>;

export const bpfMapList = z.object({ maps: z.array(bpfMap) });
export type BpfMapList = z.infer<typeof bpfMapList>;
