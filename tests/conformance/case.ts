// SPDX-License-Identifier: Apache-2.0

/** The form of the case files; policy/README.md beside the data describes it. */

export interface CaseFile {
  readonly format: string;
  readonly title: string;
  readonly cases: readonly Case[];
}

export interface CaseConfig {
  readonly allowLocalhost?: 'always' | 'policy';
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
  readonly hostFirewall?: boolean;
  readonly extendedIPProtocols?: boolean;
  readonly nodeSelectorLabels?: boolean;
  readonly clusterName?: string;
  readonly dialect?: '1.19' | '1.1';
}

interface CaseBase {
  readonly id: string;
  readonly name: string;
  readonly features?: readonly string[];
  readonly config?: CaseConfig;
}

export interface EndpointSpec {
  readonly labels: readonly string[];
  readonly namedPorts?: Readonly<Record<string, { readonly port: number; readonly protocol?: string }>>;
}

export type PeerSpec = { readonly ip: string } | { readonly entity: string };

export interface World {
  readonly enforcement?: 'default' | 'always' | 'never';
  readonly endpoints?: Readonly<Record<string, EndpointSpec>>;
  readonly peers?: Readonly<Record<string, PeerSpec>>;
  readonly dnsCache?: readonly { readonly name: string; readonly ips: readonly string[] }[];
  readonly cidrGroups?: Readonly<
    Record<string, { readonly labels?: Readonly<Record<string, string>>; readonly cidrs: readonly string[] }>
  >;
}

export type Verdict = 'allowed' | 'denied' | 'redirect' | 'l7-denied';

export interface Check {
  readonly from: string;
  readonly to: string;
  readonly direction: 'egress' | 'ingress' | 'both';
  readonly proto: 'TCP' | 'UDP' | 'SCTP' | 'ICMP' | 'ICMPv6';
  readonly port?: number;
  readonly icmpType?: number;
  readonly http?: {
    readonly method?: string;
    readonly path?: string;
    readonly host?: string;
    readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  };
  readonly kafka?: {
    readonly apiKey: string | number;
    readonly apiVersion?: number;
    readonly clientID?: string;
    readonly topics?: readonly string[];
  };
  readonly dns?: { readonly name: string };
  readonly tls?: { readonly sni?: string | null };
  readonly forwardedHeaders?: Readonly<Record<string, string | null>>;
  readonly verdict: Verdict;
}

export interface EvaluateCase extends CaseBase, World {
  readonly kind: 'evaluate';
  readonly rules?: readonly unknown[];
  readonly resources?: readonly unknown[];
  readonly checks: readonly Check[];
}

export interface Step {
  readonly op: 'import' | 'delete' | 'get' | 'check';
  readonly rules?: readonly unknown[];
  readonly resources?: readonly unknown[];
  /** Of an import: rules that have all labels of a new one go first. */
  readonly replace?: boolean;
  /** Of an import: rules that have all these labels go first. */
  readonly replaceWithLabels?: readonly string[];
  readonly labels?: readonly string[];
  readonly checks?: readonly Check[];
  readonly expect?: {
    readonly ok?: boolean;
    readonly revisionDelta?: number;
    readonly count?: number;
    readonly deleted?: number;
    readonly found?: number;
  };
}

export interface RepositoryCase extends CaseBase, World {
  readonly kind: 'repository';
  readonly steps: readonly Step[];
}

export interface ValidationCase extends CaseBase {
  readonly kind: 'invalid' | 'valid';
  readonly rules?: readonly unknown[];
  readonly resources?: readonly unknown[];
  readonly stage?: 'import' | 'resolve';
  /** With stage `resolve`: whose policy cannot be computed. */
  readonly endpoint?: EndpointSpec;
}

export interface LabelParseCase extends CaseBase {
  readonly kind: 'label-parse' | 'selector-key';
  readonly input: string;
  readonly source: string;
  readonly key: string;
  readonly value?: string;
}

export interface LabelFilterCase extends CaseBase {
  readonly kind: 'label-filter';
  readonly labels: readonly string[];
  readonly identity: readonly string[];
  readonly information: readonly string[];
  readonly prefixes?: readonly string[];
  readonly prefixFile?: unknown;
}

export interface DnsPatternCase extends CaseBase {
  readonly kind: 'dns-pattern';
  readonly pattern: string;
  readonly accept: readonly string[];
  readonly reject: readonly string[];
}

export interface PortRangeCase extends CaseBase {
  readonly kind: 'port-range';
  readonly start: number;
  readonly end: number;
  readonly blocks: readonly { readonly port: number; readonly prefix: number }[];
}

export type Case =
  EvaluateCase | RepositoryCase | ValidationCase | LabelParseCase | LabelFilterCase | DnsPatternCase | PortRangeCase;
