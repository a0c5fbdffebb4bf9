// SPDX-License-Identifier: Apache-2.0

/** `cilium config`: options of the agent, those that can be changed now and those it was started with. */
import type { Command } from 'commander';
import type { ConfigurationMap, DaemonConfiguration, DaemonConfigurationSpec } from '../../api/models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Context } from '../context.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';

interface ConfigOptions extends OutputOptions {
  readonly readOnly?: boolean;
  readonly all?: boolean;
}

/** Not an option of the datapath but shown among them. */
const ENFORCEMENT = 'PolicyEnforcement';
const NAME_WIDTH = 34;
const INNER_NAME_WIDTH = 26;

export function register(program: Command, context: Context): void {
  const config = withOutput(program.command('config'))
    .description('Show options of the agent, or change some')
    .argument('[changes...]', `OPTION=VALUE; ${ENFORCEMENT}=default|always|never`)
    .option('-r, --read-only', 'what the agent was started with')
    .option('-a, --all', 'both')
    .action(async (changes: string[], options: ConfigOptions) => {
      if (changes.length > 0) await context.client().changeConfig(asChange(changes));
      else await showConfig(context, options);
    });
  config
    .command('get')
    .description('Show the value of one option')
    .argument('<name>', 'in any spelling: enable-policy, enablePolicy, ENABLE_POLICY')
    .action(async (name: string) => {
      const { status } = await context.client().config();
      const all = { ...status.daemonConfigurationMap, ...changeable(status) };
      const found = Object.entries(all).find(([known]) => plain(known) === plain(name));
      if (found === undefined) throw new CiliumError('NotFound', 'Configuration does not exist');
      context.print(`${asText(found[1])}\n`);
    });
}

async function showConfig(context: Context, options: ConfigOptions): Promise<void> {
  const { status } = await context.client().config();
  const changes = options.readOnly === true ? {} : changeable(status);
  const fixed = options.readOnly === true || options.all === true ? status.daemonConfigurationMap : {};
  context.print((await formatted({ ...fixed, ...changes }, options)) ?? configText(changes, fixed));
}

function changeable({ realized, nodeMonitor }: DaemonConfiguration['status']): ConfigurationMap {
  const pages = nodeMonitor === undefined ? {} : { MonitorNumPages: String(nodeMonitor.npages) };
  return { ...sorted(realized.options), ...pages, [ENFORCEMENT]: realized['policy-enforcement'] };
}

function configText(changes: ConfigurationMap, fixed: Record<string, unknown>): string {
  const lines: string[] = [];
  if (Object.keys(changes).length > 0) {
    lines.push('##### Read-write configurations #####');
    for (const [name, value] of Object.entries(changes)) lines.push(`${name.padEnd(NAME_WIDTH)}: ${value}`);
  }
  if (Object.keys(fixed).length > 0) {
    lines.push('#### Read-only configurations ####');
    for (const [name, value] of Object.entries(sorted(fixed))) lines.push(...fixedLines(name, value));
  }
  return lines.map((line) => `${line}\n`).join('');
}

function fixedLines(name: string, value: unknown): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return [`${name.padEnd(NAME_WIDTH)}: ${asText(value)}`];
  }
  const members = Object.entries(value).map(([key, inner]) => `\t${key.padEnd(INNER_NAME_WIDTH)}: ${asText(inner)}`);
  return [name, ...members];
}

function asChange(changes: readonly string[]): DaemonConfigurationSpec {
  const options: ConfigurationMap = {};
  let change: DaemonConfigurationSpec = {};
  for (const text of changes) {
    const equals = text.indexOf('=');
    if (equals < 1) throw new CiliumError('InvalidArgument', `"${text}" is not of the form OPTION=VALUE`);
    const [name, value] = [text.slice(0, equals), text.slice(equals + 1)];
    if (plain(name) === plain(ENFORCEMENT)) change = { 'policy-enforcement': asEnforcement(value) };
    else options[name] = value;
  }
  return { ...change, ...(Object.keys(options).length > 0 && { options }) };
}

function asEnforcement(value: string): 'default' | 'always' | 'never' {
  if (value === 'default' || value === 'always' || value === 'never') return value;
  throw new CiliumError('InvalidArgument', `${ENFORCEMENT} is default, always or never, not "${value}"`);
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The name without what spellings differ in. */
function plain(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '');
}

function sorted<T>(map: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}
