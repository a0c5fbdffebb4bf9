// SPDX-License-Identifier: Apache-2.0

/** The `lab` command. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { describeError } from '../errors/cilium-error.ts';
import type { Addresses } from './addresses.ts';
import { formatTable } from './table.ts';
import { DEFAULT_LAB, Lab, type LabOptions } from './lab.ts';
import { parseNodeNumber } from './node.ts';

const program = new Command('lab')
  .description('Docker nodes with a Cilium agent each, on one machine: for people and for tests')
  .option('--name <lab>', 'which lab; several can be up side by side', DEFAULT_LAB)
  .enablePositionalOptions()
  .showHelpAfterError();

program
  .command('up')
  .description('bring up whatever of the lab is not up')
  .option('--nodes <n>', 'how many nodes (default: 1, or as it was)', parseCount)
  .option('--engine <engine>', 'Docker Engine: 26 or 28 (fetched from Debian), or a folder with a dockerd')
  .option('--agent-arg <arg>', 'option for the agents, may be repeated', (arg, all: string[]) => [...all, arg], [])
  .addOption(new Option('--no-agent', 'Docker Engines only'))
  .action(async (options: { nodes?: number; engine?: string; agentArg: string[]; agent: boolean }) => {
    const { agentArg, agent, ...rest } = options;
    const settings: LabOptions = { ...rest, ...(agentArg.length > 0 && { agentArgs: agentArg }) };
    const lab = openLab({ ...settings, ...(!agent && { agent }), onProgress: (step) => console.log(step) });
    await lab.up();
    printStatus(lab);
    console.log(`\nNext: bin/lab exec 1 -- docker ps; bin/lab exec outside -- ip addr; bin/lab down`);
  });

program
  .command('status')
  .description('show the nodes of the lab')
  .action(() => printStatus(openLab()));

program
  .command('exec')
  .description('run a command in a node (1, 2, …), where docker and cilium talk to that node, or in "outside"')
  .argument('<node>')
  .argument('<command...>')
  .passThroughOptions()
  .action(async (node: string, command: string[]) => {
    process.exitCode = await execute(openLab(), node, command[0] === '--' ? command.slice(1) : command);
  });

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

function parseCount(text: string): number {
  if (!/^[1-9]$/.test(text)) throw new InvalidArgumentError('expected a number from 1 to 9');
  return Number(text);
}

function printStatus(lab: Lab): void {
  const pid = (value: number | undefined): string => (value === undefined ? '-' : String(value));
  const both = ({ ipv4, ipv6 }: Addresses): string => `${ipv4}, ${ipv6}`;
  const rows = [['NODE', 'STATE', 'ADDRESSES', 'DOCKERD', 'AGENT']];
  for (const node of lab.status()) {
    const state = node.up ? 'up' : 'down';
    rows.push([node.name, state, both(node.addresses), pid(node.dockerdPid), pid(node.agentPid)]);
  }
  console.log(formatTable(rows));
}

/** Runs a command in a machine of the lab with this process's terminal; gives back its exit status. */
async function execute(lab: Lab, where: string, command: readonly string[]): Promise<number> {
  const child =
    where === 'outside'
      ? lab.outside.spawn('exec', command, { stdio: 'inherit' })
      : lab.node(parseNodeNumber(where)).spawn(command, { stdio: 'inherit' });
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
