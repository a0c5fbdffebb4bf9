// SPDX-License-Identifier: Apache-2.0

/** A node of the lab: a machine with a Docker Engine and an agent of its own. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CiliumError } from '../errors/cilium-error.ts';
import { containerRanges, nodeAddresses, type Addresses } from './addresses.ts';
import type { Cgroup } from './cgroup.ts';
import { output, type CommandOptions, type CommandResult } from './command.ts';
import { Daemon } from './daemon.ts';
import { Machine, type SpawnOptions } from './machine.ts';

/** The tree this file belongs to: bin/ is in it. */
export const HOME = fileURLToPath(new URL('..', import.meta.url));
const DOCKER_SOCKET = '/run/docker.sock';
const AGENT_SOCKET = '/run/cilium/cilium.sock';
const PLUGIN_SOCKET = '/run/docker/plugins/cilium.sock';
/** An agent whose etcd hangs answers within one or two seconds. */
const ANSWER_TIMEOUT_MS = 5_000;
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface NodeOptions {
  /** Folders searched for dockerd and its helpers before the system's. */
  enginePath?: readonly string[];
  /** Options for the agent on top of the lab's own. */
  agentArgs?: readonly string[];
  /** Where containers ask for names that Docker does not know. @default as the machine does */
  nameServer?: string;
}

export class LabNode {
  readonly number: number;
  readonly machine: Machine;
  readonly addresses: Addresses;
  readonly #options: NodeOptions;
  readonly #dockerd: Daemon;
  readonly #agent: Daemon;

  constructor(number: number, dir: string, cgroup: Cgroup, options: NodeOptions) {
    this.number = number;
    this.machine = new Machine(`node${number}`, dir, cgroup);
    this.addresses = nodeAddresses(number);
    this.#options = options;
    this.#dockerd = new Daemon(this.machine, 'dockerd', ['dockerd', 'containerd']);
    this.#agent = new Daemon(this.machine, 'agent');
  }

  get name(): string {
    return this.machine.name;
  }

  /** The engine's address for a client outside of the node. */
  get dockerHost(): string {
    return `unix://${join(this.machine.root, DOCKER_SOCKET)}`;
  }

  /** The agent's API socket, seen from outside of the node. */
  get agentSocket(): string {
    return join(this.machine.root, AGENT_SOCKET);
  }

  get dockerdPid(): number | undefined {
    return this.#dockerd.pid;
  }

  get agentPid(): number | undefined {
    return this.#agent.pid;
  }

  get agentLog(): string {
    return this.#agent.logFile;
  }

  get dockerdLog(): string {
    return this.#dockerd.logFile;
  }

  /** Runs `docker` against this node's engine; throws unless it succeeds. Gives back what it printed. */
  docker(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return output(['docker', '-H', this.dockerHost, ...args], { env: this.#daemonEnvironment(), ...options });
  }

  /** Runs `cilium` in the node; throws unless it succeeds. Gives back what it printed. */
  cilium(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return this.exec(['cilium', ...args], options);
  }

  /** Runs a program in the node that has to succeed; `docker` and `cilium` talk to this node. */
  exec(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return this.machine.exec(argv, { env: this.environment(), ...options });
  }

  /** As `exec`, but any exit status is an answer. */
  run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return this.machine.run(argv, { env: this.environment(), ...options });
  }

  /** Starts a program in the node; the caller owns it. It ends with the lab at the latest. */
  spawn(argv: readonly string[], options: SpawnOptions = {}) {
    return this.machine.spawn('exec', argv, { env: this.environment(), ...options });
  }

  /** Variables with which programs inside the node find its engine, its agent and our commands. */
  environment(base: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
    return {
      ...base,
      DOCKER_CONTEXT: undefined, // would win over DOCKER_HOST
      DOCKER_TLS_VERIFY: undefined,
      DOCKER_HOST: `unix://${DOCKER_SOCKET}`,
      CILIUM_SOCK: AGENT_SOCKET,
      PATH: [join(HOME, 'bin'), ...(this.#options.enginePath ?? []), SYSTEM_PATH].join(':'),
    };
  }

  /** Starts the Docker Engine unless it runs, and waits until it answers. */
  async startDockerd(args: readonly string[] = []): Promise<void> {
    const configFile = join(this.machine.dir, 'daemon.json'); // not the machine's /etc/docker/daemon.json
    mkdirSync(this.machine.dir, { recursive: true });
    writeFileSync(configFile, '{}\n');
    await this.#dockerd.start({
      argv: [
        'dockerd',
        ...['--config-file', configFile, '--data-root', join(this.machine.dir, 'docker')],
        ...['-H', `unix://${DOCKER_SOCKET}`, '--exec-opt', 'native.cgroupdriver=cgroupfs'],
        ...['--cgroup-parent', this.machine.cgroup.child('containers').path],
        ...(this.#options.nameServer === undefined ? [] : ['--dns', this.#options.nameServer]),
        ...args,
      ],
      env: this.#daemonEnvironment(),
      ready: () => answers(join(this.machine.root, DOCKER_SOCKET), '/_ping'),
    });
  }

  /** Ends the engine and waits until it is gone; with SIGKILL containers live on, as after a crash. */
  stopDockerd(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    return this.#dockerd.stop(signal);
  }

  killDockerd(): Promise<void> {
    return this.stopDockerd('SIGKILL');
  }

  /** Starts the agent unless it runs, and waits until its plugin socket and its API answer. `env`: further variables for it. */
  async startAgent(args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<void> {
    const ranges = containerRanges(this.number);
    await this.#agent.start({
      argv: [
        join(HOME, 'bin/cilium-agent'),
        `--state-dir=${join(this.machine.dir, 'cilium')}`,
        `--ipv4-range=${ranges.ipv4}`,
        `--ipv6-range=${ranges.ipv6}`,
        ...(this.#options.agentArgs ?? []),
        ...args,
      ],
      env: { ...this.#daemonEnvironment(), ...env },
      ready: async () =>
        (await answers(this.agentSocket, '/v1/healthz')) &&
        (await answers(join(this.machine.root, PLUGIN_SOCKET), '/NetworkDriver.GetCapabilities', 'POST')),
    });
  }

  /** Ends the agent with `signal` and waits until it is gone. */
  stopAgent(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    return this.#agent.stop(signal);
  }

  killAgent(): Promise<void> {
    return this.stopAgent('SIGKILL');
  }

  /** Daemons take nothing from the caller's environment. */
  #daemonEnvironment(): NodeJS.ProcessEnv {
    return { PATH: [...(this.#options.enginePath ?? []), SYSTEM_PATH].join(':'), HOME: '/root', LANG: 'C.UTF-8' };
  }
}

/** The number of a node as people write it: "1" or "node1". */
export function parseNodeNumber(text: string): number {
  const match = /^(?:node)?([1-9])$/.exec(text);
  if (!match)
    throw new CiliumError('InvalidArgument', `"${text}" is no machine of a lab: expected 1, 2, …, etcd1, … or outside`);
  return Number(match[1]);
}

/** Whether a server on this unix socket answers a request at all. */
function answers(socketPath: string, path: string, method = 'GET'): Promise<boolean> {
  return new Promise((resolve) => {
    const call = request({ socketPath, path, method, timeout: ANSWER_TIMEOUT_MS, agent: false }, (response) => {
      response.resume();
      resolve((response.statusCode ?? 500) < 500);
    });
    call.on('error', () => resolve(false));
    call.on('timeout', () => call.destroy());
    call.end();
  });
}
