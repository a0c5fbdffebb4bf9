// SPDX-License-Identifier: Apache-2.0

/** The `lab` command. */
import type { ChildProcess } from 'node:child_process';
import { Command, InvalidArgumentError, Option } from 'commander';
import { CiliumError, describeError } from '../errors/cilium-error.ts';
import type { Addresses } from './addresses.ts';
import { formatTable } from './table.ts';
import { DEFAULT_LAB, Lab, type LabOptions } from './lab.ts';
import { parseNodeNumber } from './node.ts';
import type { LabSettings } from './settings.ts';

interface UpOptions extends Omit<LabSettings, 'nodes' | 'agentArgs'> {
  nodes?: number;
  agentArg: string[];
}

const program = new Command('lab')
  .description('Docker nodes with a Cilium agent each, on one machine: for people and for tests')
  .option('--name <lab>', 'which lab; several can be up side by side', DEFAULT_LAB)
  .enablePositionalOptions()
  .showHelpAfterError();

program
  .command('up')
  .description('bring up whatever of the lab is not up')
  .option('--nodes <n>', 'how many nodes (default: 1, or as it was)', parseCount)
  .option(
    '--etcd <members>',
    'etcd members the agents share: 0, 1 or 3 (default: 1 when there are several nodes)',
    Number,
  )
  .addOption(new Option('--underlay <families>', "families of the nodes' own addresses").choices(['dual', 'ipv6']))
  .option('--engine <engine>', 'Docker Engine: 26 or 28 (fetched from Debian), or a folder with a dockerd')
  .option('--agent-arg <arg>', 'option for the agents, may be repeated', (arg, all: string[]) => [...all, arg], [])
  .addOption(new Option('--no-agent', 'Docker Engines only'))
  .action(async (options: UpOptions) => {
    const { agentArg, agent, ...rest } = options;
    const settings: LabOptions = { ...rest, ...(agentArg.length > 0 && { agentArgs: agentArg }) };
    const lab = openLab({ ...settings, ...(!agent && { agent }), onProgress: (step) => console.log(step) });
    await lab.up();
    await printStatus(lab);
    const command = commandFor(lab.name);
    console.log(`\nNext: ${command} exec 1 -- docker ps; ${command} exec outside -- ip addr; ${command} down`);
  });

program
  .command('status')
  .description('show the nodes of the lab, the members of its etcd, and who is cut off from whom')
  .action(() => printStatus(existingLab()));

program
  .command('exec')
  .description(
    'run a command in a node (1, 2, …), where docker and cilium talk to that node; in "etcd1", where etcdctl talks to that member; or in "outside"',
  )
  .argument('<machine>')
  .argument('<command...>')
  .passThroughOptions()
  .action(async (node: string, command: string[]) => {
    process.exitCode = await execute(existingLab(), node, command[0] === '--' ? command.slice(1) : command);
  });

program
  .command('cut')
  .description('let nothing pass between a machine (node1, etcd1, outside) and others, or all others')
  .argument('<machine>')
  .argument('[others...]', 'machines, or "etcd" for all its members')
  .action((machine: string, others: string[]) => existingLab().cut(machine, ...others));

program
  .command('heal')
  .description('undo cuts between a machine and others, or all others; without arguments: all cuts')
  .argument('[machine]')
  .argument('[others...]', 'machines, or "etcd" for all its members')
  .action((machine: string | undefined, others: string[]) => existingLab().heal(machine, ...others));

program
  .command('down')
  .description('end everything in the lab and remove what it left, whatever state it is in')
  .option('--all', 'every lab of this machine')
  .action(async (options: { all?: true }) => {
    const labs = options.all ? Lab.names().map((name) => new Lab({ name })) : [openLab()];
    for (const lab of labs) await lab.down();
  });

function openLab(options: LabOptions = {}): Lab {
  return new Lab({ ...options, name: program.opts<{ name: string }>().name });
}

function existingLab(): Lab {
  const lab = openLab();
  if (lab.exists) return lab;
  throw new CiliumError(
    'NotFound',
    `there is no lab "${lab.name}" on this machine: ${commandFor(lab.name)} up makes it`,
  );
}

/** How the lab is spoken to on a command line. */
function commandFor(name: string): string {
  return name === DEFAULT_LAB ? 'bin/lab' : `bin/lab --name ${name}`;
}

function parseCount(text: string): number {
  if (!/^[1-9]$/.test(text)) throw new InvalidArgumentError('expected a number from 1 to 9');
  return Number(text);
}

async function printStatus(lab: Lab): Promise<void> {
  const pid = (value: number | undefined): string => (value === undefined ? '-' : String(value));
  const both = ({ ipv4, ipv6 }: Addresses): string => `${ipv4}, ${ipv6}`;
  const rows = [['NODE', 'STATE', 'ADDRESSES', 'DOCKERD', 'AGENT']];
  for (const node of lab.status()) {
    const state = node.up ? 'up' : 'down';
    rows.push([node.name, state, both(node.addresses), pid(node.dockerdPid), pid(node.agentPid)]);
  }
  const tables = [rows];
  if (lab.etcd.length > 0) {
    const members = lab
      .members()
      .map((member) => [member.name, member.up ? 'up' : 'down', both(member.addresses), pid(member.pid)]);
    tables.push([['MEMBER', 'STATE', 'ADDRESSES', 'ETCD'], ...members]);
  }
  const cuts = process.getuid?.() === 0 ? await lab.cuts() : new Map<string, string[]>();
  if (cuts.size > 0)
    tables.push([['MACHINE', 'CUT OFF FROM'], ...Array.from(cuts, ([one, all]) => [one, all.join(', ')])]);
  console.log(tables.map(formatTable).join('\n\n'));
}

function spawnIn(lab: Lab, where: string, command: readonly string[]): ChildProcess {
  const stdio = 'inherit';
  if (where === 'outside') return lab.outside.spawn('exec', command, { stdio });
  const member = /^etcd(\d)$/.exec(where)?.[1];
  if (member !== undefined) return lab.member(Number(member)).spawn(command, { stdio });
  return lab.node(parseNodeNumber(where)).spawn(command, { stdio });
}

/** Runs a command in a machine of the lab with this process's terminal; gives back its exit status. */
async function execute(lab: Lab, where: string, command: readonly string[]): Promise<number> {
  const child = spawnIn(lab, where, command);
  // Ctrl-C goes to the command, which shares our terminal; we wait for how it takes it.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? 1));
  });
}

try {
  await program.parseAsync();
} catch (error) {
  console.error(`lab: ${describeError(error)}`);
  process.exitCode = 1;
}
