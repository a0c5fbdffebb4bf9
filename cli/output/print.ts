// SPDX-License-Identifier: Apache-2.0

/** `-o json|yaml|jsonpath=…`: the same for every command that has a model to show. */
import { InvalidArgumentError, Option, type Command } from 'commander';

export interface OutputOptions {
  readonly output?: string;
}

/** Adds `-o` to a command. */
export function withOutput(command: Command): Command {
  const option = new Option('-o, --output <format>', 'json, yaml or jsonpath=TEMPLATE instead of text');
  return command.addOption(option.argParser(checkFormat));
}

/** The value in the format asked for, or undefined when text is wanted. */
export async function formatted(value: unknown, { output }: OutputOptions): Promise<string | undefined> {
  if (output === undefined) return undefined;
  if (output === 'json') return `${JSON.stringify(sortKeys(value), undefined, 2)}\n\n`;
  if (output === 'yaml') return `${(await import('yaml')).stringify(sortKeys(value))}\n`;
  const { jsonpath } = await import('./jsonpath.ts');
  return `${jsonpath(output.slice('jsonpath='.length), value)}\n`;
}

function checkFormat(text: string): string {
  if (text === 'json' || text === 'yaml' || text.startsWith('jsonpath=')) return text;
  throw new InvalidArgumentError('Use json, yaml or jsonpath=TEMPLATE.');
}

/** Members in the order of their names: two answers of the agent can be compared as text. */
function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(members.map(([key, member]) => [key, sortKeys(member)]));
}
