// SPDX-License-Identifier: Apache-2.0

/**
 * A program of commands, such as `cilium`: finds the sub-command, loads its module and nothing else, and turns every failure into one line.
 *
 * Budget: a command is back in well under 150 ms, of which Node takes 30; so each group of commands is a module that loads
 * when it is asked for, and zod, yaml and the FFI load only where they are used.
 */
import { Command, CommanderError } from 'commander';
import { DEFAULT_SOCKET } from '../api/paths.ts';
import { describeError, isCiliumError } from '../errors/cilium-error.ts';
import { Context, type CliIo } from './context.ts';

type Register = (program: Command, context: Context) => void;

interface CommandGroup {
  readonly description: string;
  readonly load: () => Promise<Register>;
}

export interface Program {
  readonly name: string;
  readonly description: string;
  /** What `--host` names, for the help text. */
  readonly hostHelp: string;
  readonly setHost: (context: Context, uri: string | undefined) => void;
  /** In the order of the help text. */
  readonly commands: Readonly<Record<string, CommandGroup>>;
}

const COMMANDS: Program['commands'] = {
  status: { description: 'Show how the agent is', load: async () => (await import('./commands/status.ts')).register },
  version: {
    description: 'Show the versions of client and agent',
    load: async () => (await import('./commands/version.ts')).register,
  },
  config: {
    description: 'Show and change options of the agent',
    load: async () => (await import('./commands/config.ts')).register,
  },
  endpoint: {
    description: 'Containers under control of the agent',
    load: async () => (await import('./commands/endpoint.ts')).register,
  },
  identity: {
    description: 'Security identities and their labels',
    load: async () => (await import('./commands/identity.ts')).register,
  },
  ip: {
    description: 'Addresses and their identities, on all nodes',
    load: async () => (await import('./commands/ip.ts')).register,
  },
  node: {
    description: 'Nodes of the cluster',
    load: async () => (await import('./commands/node.ts')).register,
  },
  policy: {
    description: 'Rules: import, show, delete, check, explain, simulate',
    load: async () => (await import('./commands/policy.ts')).register,
  },
  monitor: {
    description: 'Show drops, traces and policy verdicts as they happen',
    load: async () => (await import('./commands/monitor.ts')).register,
  },
  bpf: {
    description: 'What the kernel holds, also without an agent; needs root',
    load: async () => (await import('./commands/bpf.ts')).register,
  },
  map: {
    description: 'The BPF maps as the agent sees them',
    load: async () => (await import('./commands/map.ts')).register,
  },
  kvstore: {
    description: 'Keys of the key-value store: show, write, delete',
    load: async () => (await import('./commands/kvstore.ts')).register,
  },
  'docker-dns': {
    description: 'Have Docker ask the agent for names of containers on other nodes',
    load: async () => (await import('./commands/docker-dns.ts')).register,
  },
  completion: {
    description: 'Print a script that completes commands in a shell',
    load: async () => (await import('./commands/completion.ts')).register,
  },
};

export const CILIUM: Program = {
  name: 'cilium',
  description: 'Identity-based networking and policy for Docker',
  hostHelp: `address of the agent (default: $CILIUM_HOST, $CILIUM_SOCK, unix://${DEFAULT_SOCKET})`,
  setHost: (context, uri) => {
    context.host = uri;
  },
  commands: COMMANDS,
};

/** A command that was used in a way that does not exist. */
class UsageError extends Error {
  readonly command: Command;
  constructor(message: string, command: Command) {
    super(message);
    this.command = command;
  }
}

/** Reports wrong usage with the command it concerns, instead of ending the process. */
class CliCommand extends Command {
  override createCommand(name?: string): Command {
    return new CliCommand(name);
  }

  override error(message: string): never {
    throw new UsageError(message.replace(/^error: /, ''), this);
  }
}

/** Runs one command line (without the two words in front) and answers the exit status. */
export async function runCli(argv: readonly string[], io: CliIo, spec: Program = CILIUM): Promise<number> {
  const context = new Context(io);
  const program = newProgram(spec, context);
  try {
    await addCommands(spec, program, context, argv);
    await program.parseAsync(argv, { from: 'user' });
    return context.exitStatus;
  } catch (error) {
    return report(error, program, context);
  }
}

function newProgram({ name, description, hostHelp, setHost }: Program, context: Context): Command {
  const program = new CliCommand(name);
  return program
    .description(description)
    .option('-H, --host <uri>', hostHelp)
    .option('-D, --debug', 'show where an error comes from')
    .configureOutput({ writeOut: (text) => context.print(text), writeErr: (text) => context.print(text) })
    .exitOverride()
    .hook('preAction', () => {
      setHost(context, program.opts<{ host?: string }>().host);
    });
}

/** Adds every command by name, and the one that `argv` asks for with all it has; completion is about all of them. */
async function addCommands(
  { commands }: Program,
  program: Command,
  context: Context,
  argv: readonly string[],
): Promise<void> {
  const wanted = argv.find((word) => Object.hasOwn(commands, word));
  for (const [name, { description, load }] of Object.entries(commands)) {
    if (name === wanted || wanted === 'completion') (await load())(program, context);
    else program.command(name).description(description);
  }
}

function report(error: unknown, program: Command, context: Context): number {
  if (error instanceof UsageError) {
    context.warn(`Error: ${error.message}\n`);
    context.print(error.command.helpInformation());
    return 1;
  }
  if (error instanceof CommanderError) return 0; // help or nothing was asked for, and the help is printed
  context.warn(`Error: ${describeError(error)}`);
  if (isCiliumError(error, 'AgentUnavailable')) context.warn(remedyFor(error));
  if (program.opts<{ debug?: boolean }>().debug === true && error instanceof Error) context.warn(error.stack ?? '');
  return 1;
}

function remedyFor(error: Error): string {
  const denied = error.cause instanceof Error && 'code' in error.cause && error.cause.code === 'EACCES';
  if (denied) return 'Run it as root or as a member of the group "cilium".';
  return 'Is the agent running? CILIUM_SOCK=PATH or --host unix:///PATH names another socket.';
}
