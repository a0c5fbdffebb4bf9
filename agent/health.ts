// SPDX-License-Identifier: Apache-2.0

/** Probes between nodes, put together: who asks, who answers, and the API that tells what was found. */
import type {
  ConnectivityStatus,
  HealthStatus,
  NodeHealth as NodeHealthModel,
  PathStatus,
} from '../api/health-models.ts';
import type { Status } from '../api/models.ts';
import { IcmpEcho } from '../datapath/icmp/echo.ts';
import { CiliumError } from '../errors/cilium-error.ts';
import type { IpAddress } from '../net/ip.ts';
import { helloProbe } from '../node/health/hello-probe.ts';
import { HelloServer } from '../node/health/hello-server.ts';
import { HealthProber } from '../node/health/prober.ts';
import type { NodeHealth, PathHealth, ProbeResult } from '../node/health/report.ts';
import type { NodeRegistry } from '../node/node-registry.ts';
import { addressesOf } from '../node/node.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import type { ControllerStatus } from '../runtime/controller.ts';
import { formatDuration } from '../runtime/duration.ts';
import type { Logger } from '../runtime/logger.ts';
import { fullName } from './cluster-view.ts';
import { healthApi, type HealthServices } from './rest/health-routes.ts';
import { RestServer } from './rest/server.ts';

const NS_PER_MS = 1_000_000;

export interface HealthDeps {
  /** Undefined when the node is alone. */
  readonly nodes: Pick<NodeRegistry, 'local' | 'list' | 'onChange'> | undefined;
  /** Where nodes ask each other; 0: they do not. */
  readonly port: number;
  /** Of the API. */
  readonly socketPath: string;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Probing {
  readonly nodes: Pick<NodeRegistry, 'local' | 'list' | 'onChange'>;
  readonly echo: IcmpEcho;
  readonly prober: HealthProber;
  readonly listener: HelloServer;
}

export class Health implements Component, HealthServices {
  readonly name = 'health';
  readonly #deps: HealthDeps;
  readonly #probing: Probing | undefined;
  readonly #server: RestServer;
  #unsubscribe: (() => void) | undefined;

  constructor(deps: HealthDeps) {
    this.#deps = deps;
    const { nodes, port, socketPath, clock, log } = deps;
    this.#server = new RestServer({ socketPath, api: healthApi(this), log });
    if (nodes === undefined || port === 0) return;
    const echo = new IcmpEcho(clock);
    const icmp = (address: IpAddress, timeoutMs: number, signal: AbortSignal) => echo.ask(address, timeoutMs, signal);
    const addresses = (): IpAddress[] => [
      ...addressesOf(nodes.local, 'InternalIP'),
      ...addressesOf(nodes.local, 'CiliumInternalIP'),
    ];
    this.#probing = {
      nodes,
      echo,
      prober: new HealthProber({ nodes, icmp, http: helloProbe(port, clock), log, clock }),
      listener: new HelloServer({ port, addresses, log, clock }),
    };
  }

  async start(): Promise<void> {
    if (this.#probing !== undefined) {
      const { nodes, echo, prober, listener } = this.#probing;
      try {
        echo.open();
      } catch (error) {
        // Networking does not need it; each answer that is missing says why.
        this.#deps.log.warn('Nodes cannot be asked by ICMP', { error });
      }
      await listener.start();
      this.#unsubscribe = nodes.onChange(({ node }) => {
        if (node.name === nodes.local.name) listener.changed();
      });
      await prober.start();
    }
    await this.#server.start();
  }

  async stop(): Promise<void> {
    await this.#server.stop();
    this.#unsubscribe?.();
    await this.#probing?.prober.stop();
    await this.#probing?.listener.stop();
    this.#probing?.echo.close();
  }

  /** Whether nodes are probed from here, and may probe this one. */
  get state(): Status {
    if (this.#probing === undefined) return { state: 'Disabled' };
    const { lastError, consecutiveFailures } = this.#probing.listener.status;
    return consecutiveFailures === 0 ? { state: 'Ok' } : { state: 'Warning', msg: lastError ?? '' };
  }

  /** What works in the background, for the status. */
  get controllers(): { readonly status: ControllerStatus }[] {
    return this.#probing === undefined ? [] : [this.#probing.listener];
  }

  status(): HealthStatus {
    const { nodes, prober } = this.#running();
    const { nodes: known, lastProbe, intervalMs } = prober.report();
    return {
      local: { name: fullName(nodes.local) },
      nodes: known.map(nodeModel),
      ...(lastProbe !== undefined && { timestamp: new Date(lastProbe).toISOString() }),
      'probe-interval': formatDuration(intervalMs * NS_PER_MS),
    };
  }

  async probe(): Promise<HealthStatus> {
    await this.#running().prober.probe();
    return this.status();
  }

  #running(): Probing {
    if (this.#probing !== undefined) return this.#probing;
    const why =
      this.#deps.nodes === undefined
        ? 'this node is alone: start the agents with --kvstore=etcd'
        : 'they are off: start the agent with another --health-port than 0';
    throw new CiliumError('Unsupported', `there are no probes between nodes, as ${why}`);
  }
}

function nodeModel({ node, host, endpoint }: NodeHealth): NodeHealthModel {
  return { name: fullName(node), host: pathsModel(host), 'health-endpoint': pathsModel(endpoint) };
}

/** The first address of a node is its IPv4 one, if it has one. */
function pathsModel(paths: readonly PathHealth[]): NodeHealthModel['host'] {
  const [first, ...others] = paths.toSorted((a, b) => a.address.family - b.address.family).map(pathModel);
  return { ...(first && { 'primary-address': first }), 'secondary-addresses': others };
}

function pathModel({ address, icmp, http }: PathHealth): PathStatus {
  return {
    ip: address.toString(),
    ...(icmp && { icmp: resultModel(icmp) }),
    ...(http && { http: resultModel(http) }),
  };
}

function resultModel({ at, latencyMs, error }: ProbeResult): ConnectivityStatus {
  return {
    latency: Math.round((latencyMs ?? 0) * NS_PER_MS),
    status: error ?? '',
    lastProbed: new Date(at).toISOString(),
  };
}
