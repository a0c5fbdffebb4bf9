// SPDX-License-Identifier: Apache-2.0

/**
 * Configuration from one table of options: flag over environment over file over default.
 *
 * The table's key `stateDir` is the flag `--state-dir`, the variable `CILIUM_STATE_DIR` and the file's key `state-dir`.
 * Every value is checked by its schema, every problem is reported with its key and source, unknown keys are refused.
 * Text becomes a boolean, number or list (separated by commas) when the option's default is one.
 */
import type { z } from 'zod';
import { CiliumError } from '../errors/cilium-error.ts';
import { describeRefusal, formOf, nearestName, valuesOf } from './option-values.ts';

/** Options and their documentation in one place; `cilium config`, `--help` and docs are made from it. */
export interface OptionSpec<T> {
  readonly schema: z.ZodType<T>;
  readonly default: T;
  /** What it does and, where that is not plain, why the default is what it is. */
  readonly description: string;
  /** Of numbers: 's', 'bytes', 'entries'. */
  readonly unit?: string;
}

export type OptionTable = Readonly<Record<string, OptionSpec<unknown>>>;
export type OptionValues<Table extends OptionTable> = {
  readonly [Key in keyof Table]: Table[Key] extends OptionSpec<infer T> ? T : never;
};
export type OptionSource = 'flag' | 'environment' | 'file' | 'default';

export interface OptionInput {
  /** The command line behind the program's name. */
  readonly argv?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** JSON, or lines of `key: value`. */
  readonly file?: { readonly path: string; readonly text: string };
  /** Variables that begin with `CILIUM_` but belong to other programs. */
  readonly foreignEnv?: readonly string[];
  /** Whose `--help` lists the options. */
  readonly program?: string;
}

export interface LoadedOptions<Table extends OptionTable> {
  /** Frozen. */
  readonly values: OptionValues<Table>;
  readonly sources: Readonly<Record<keyof Table, OptionSource>>;
}

export interface OptionDescription {
  readonly key: string;
  readonly flag: string;
  readonly variable: string;
  readonly default: unknown;
  readonly unit: string | undefined;
  /** "tunnel, native" or "1 to 65535"; undefined where the description says it. */
  readonly values: string | undefined;
  readonly description: string;
}

const ENV_PREFIX = 'CILIUM_';

/** Gives one row of a table its type. */
export function option<T>(spec: OptionSpec<T>): OptionSpec<T> {
  return spec;
}

/** Throws `InvalidArgument` that lists every problem of every source. */
export function loadOptions<Table extends OptionTable>(table: Table, input: OptionInput): LoadedOptions<Table> {
  const problems: string[] = [];
  const given = new Map<string, { value: unknown; source: OptionSource; where: string }>();
  const names = new Map(Object.keys(table).map((key) => [flagName(key), key]));
  const remedies = new Set<string>();
  const accept = (name: string, value: unknown, source: OptionSource, where: string): void => {
    const key = names.get(name);
    if (key === undefined) {
      if (input.program !== undefined) remedies.add(`${input.program} --help lists them`);
      problems.push(unknownOption(name, source, where, names.keys()));
    } else given.set(key, { value, source, where });
  };
  // Later sources overrule earlier ones.
  if (input.file !== undefined) {
    const { path } = input.file;
    for (const [name, value] of parseFile(input.file.path, input.file.text, problems)) {
      accept(name, value, 'file', `${name} in ${path}`);
    }
  }
  for (const [variable, value] of Object.entries(input.env ?? {})) {
    const isOurs = variable.startsWith(ENV_PREFIX) && input.foreignEnv?.includes(variable) !== true;
    if (!isOurs || value === undefined) continue;
    const name = variable.slice(ENV_PREFIX.length).toLowerCase().replaceAll('_', '-');
    accept(name, value, 'environment', `${variable} in the environment`);
  }
  const specOf = (name: string): OptionSpec<unknown> | undefined => table[names.get(name) ?? ''];
  const flags = new Map<string, string>();
  for (const [name, value] of parseFlags(input.argv ?? [], specOf, problems)) {
    const before = flags.get(name);
    flags.set(name, before !== undefined && Array.isArray(specOf(name)?.default) ? `${before},${value}` : value);
  }
  for (const [name, value] of flags) accept(name, value, 'flag', `--${name}`);

  const values: Record<string, unknown> = {};
  const sources: Record<string, OptionSource> = {};
  for (const [key, spec] of Object.entries(table)) {
    const entry = given.get(key);
    sources[key] = entry?.source ?? 'default';
    if (entry === undefined) {
      values[key] = freeze(spec.default);
      continue;
    }
    const result = spec.schema.safeParse(fromText(entry.value, spec.default));
    if (result.success) values[key] = freeze(result.data);
    else problems.push(`${entry.where}: ${describeRefusal(spec.schema, entry.value, result.error.issues)}`);
  }
  if (problems.length > 0) {
    throw new CiliumError('InvalidArgument', [...problems, ...remedies].join('; '), { problems });
  }
  return {
    values: Object.freeze(values) as OptionValues<Table>,
    sources: Object.freeze(sources) as Record<keyof Table, OptionSource>,
  };
}

/** The rows of help texts and documents, in the table's order. */
export function describeOptions(table: OptionTable): OptionDescription[] {
  return Object.entries(table).map(([key, spec]) => ({
    key,
    flag: `--${flagName(key)}`,
    variable: ENV_PREFIX + flagName(key).toUpperCase().replaceAll('-', '_'),
    default: spec.default,
    unit: spec.unit,
    values: valuesOf(spec.schema),
    description: spec.description,
  }));
}

/** `ipv4Range` is `ipv4-range`. */
function flagName(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** A flag is shown as such; what stands elsewhere with its place. */
function unknownOption(name: string, source: OptionSource, where: string, known: Iterable<string>): string {
  const nearest = nearestName(name, known);
  const hint = nearest === undefined ? '' : ` (is --${nearest} meant?)`;
  return (source === 'flag' ? `there is no option --${name}` : `${where}: there is no such option`) + hint;
}

function* parseFlags(
  argv: readonly string[],
  specOf: (name: string) => OptionSpec<unknown> | undefined,
  problems: string[],
): Generator<[name: string, value: string]> {
  for (let i = 0; i < argv.length; i++) {
    const [, name, value] = /^--([^=]+)(?:=(.*))?$/s.exec(argv[i]!) ?? [];
    if (name === undefined) {
      problems.push(`"${argv[i]!}" on the command line: expected --option=value`);
    } else if (value !== undefined) {
      yield [name, value];
    } else if (typeof specOf(name)?.default === 'boolean') {
      yield [name, 'true'];
    } else if (i + 1 < argv.length && !argv[i + 1]!.startsWith('--')) {
      yield [name, argv[++i]!];
    } else {
      const spec = specOf(name);
      if (spec === undefined)
        yield [name, '']; // refused for its name
      else problems.push(`--${name}: expected ${formOf(spec.schema) ?? 'a value'}, found nothing`);
    }
  }
}

function parseFile(path: string, text: string, problems: string[]): [name: string, value: unknown][] {
  return text.trimStart().startsWith('{') ? parseJson(path, text, problems) : parseLines(path, text, problems);
}

function parseJson(path: string, text: string, problems: string[]): [string, unknown][] {
  try {
    return Object.entries(JSON.parse(text) as object);
  } catch (error) {
    problems.push(`${path}: ${(error as Error).message}`);
    return [];
  }
}

function parseLines(path: string, text: string, problems: string[]): [string, unknown][] {
  const entries = new Map<string, unknown>();
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const [, name, raw] = /^([\w-]+):(?:\s+(.*?))?\s*$/.exec(line) ?? [];
    if (name === undefined) problems.push(`${path}:${index + 1}: expected "key: value"`);
    else if (entries.has(name)) problems.push(`${path}:${index + 1}: ${name} is given twice`);
    else entries.set(name, unquote(raw ?? ''));
  }
  return [...entries];
}

function unquote(text: string): string {
  const quoted = /^"(.*)"$|^'(.*)'$/.exec(text);
  return quoted === null ? text : (quoted[1] ?? quoted[2] ?? '');
}

/** Text in the form of the default; what has no such form is left for the schema to refuse. */
function fromText(value: unknown, example: unknown): unknown {
  if (typeof value !== 'string') return value;
  const text = value.trim();
  if (typeof example === 'boolean') return text === 'true' ? true : text === 'false' ? false : value;
  if (typeof example === 'number') return text !== '' && Number.isFinite(Number(text)) ? Number(text) : value;
  if (Array.isArray(example)) return text === '' ? [] : text.split(',').map((item) => item.trim());
  return value;
}

function freeze(value: unknown): unknown {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(freeze);
  return Object.freeze(value);
}
