// SPDX-License-Identifier: Apache-2.0

/**
 * Which labels make the identity and which are only information.
 *
 * Patterns are `[SOURCE:][!]REGEX`, matched from the start of the key; `!` excludes. Among the patterns that match, the
 * longest match of an include (I) and the shortest of an exclude (X) decide: a label counts if I > X, or if nothing
 * excludes it and no include was given by the user (reference: policy-language 3.2).
 */
import { CiliumError } from '../errors/cilium-error.ts';
import { LabelSet } from './label-set.ts';
import type { Label } from './label.ts';
import type { RegexEngine } from './regex.ts';

const DEFAULT_PATTERNS = [
  'reserved:.*',
  'io\\.kubernetes\\.pod\\.namespace',
  'io\\.cilium\\.k8s\\.namespace\\.labels',
  'app\\.kubernetes\\.io',
  'io\\.cilium\\.k8s\\.policy\\.cluster',
  'io\\.cilium\\.k8s\\.policy\\.serviceaccount',
  '!io\\.kubernetes',
  '!kubernetes\\.io',
  '!statefulset\\.kubernetes\\.io/pod-name',
  '!apps\\.kubernetes\\.io/pod-index',
  '!batch\\.kubernetes\\.io/job-completion-index',
  '!batch\\.kubernetes\\.io/controller-uid',
  '!.*beta\\.kubernetes\\.io',
  '!k8s\\.io',
  '!pod-template-generation',
  '!pod-template-hash',
  '!controller-revision-hash',
  '!controller-uid',
  '!annotation.*',
  '!etcd_node',
  '!topology\\.kubernetes\\.io',
];

/**
 * Labels that differ from one container or image build to the next without meaning anything for policy; with them each
 * container would have an identity of its own. The agent adds these.
 */
export const VOLATILE_DOCKER_PATTERNS: readonly string[] = [
  'container:!com\\.docker\\.compose\\.(config-hash|container-number|depends_on|image|oneoff|replace|slug|version)$',
  'container:!com\\.docker\\.compose\\.project\\.(config_files|environment_file|working_dir)$',
  'container:!com\\.docker\\.(desktop|extension)\\.',
  'container:!desktop\\.docker\\.io/',
  'container:!org\\.(opencontainers\\.image|label-schema)\\.',
];

export interface LabelFilterOptions {
  /** The program's own, in what RE2 and JavaScript have in common; they are no word of the user. */
  readonly builtIn?: readonly string[];
  /** The user's, added to the defaults or to the file's list. */
  readonly patterns?: readonly string[];
  /** For the user's patterns. */
  readonly regex: RegexEngine;
  /** Content of a label prefix file; it replaces the defaults. */
  readonly prefixFile?: unknown;
}

interface Pattern {
  readonly source: string;
  readonly exclude: boolean;
  /** Length of the match at the start of the key, or undefined. */
  readonly match: (key: string) => number | undefined;
}

export class LabelFilter {
  readonly #patterns: readonly Pattern[];
  /** The user named labels to include, so all others are left out. */
  readonly #allowList: boolean;

  /** Throws `InvalidArgument` for a malformed pattern or file. */
  constructor(options: LabelFilterOptions) {
    const texts = (options.patterns ?? []).filter((text) => text !== '');
    const given = texts.map((text) => parsePattern(text, options.regex));
    const builtIn = (options.builtIn ?? []).map(parseBuiltIn);
    const file = options.prefixFile === undefined ? undefined : parsePrefixFile(options.prefixFile);
    this.#patterns = [...(file ?? DEFAULT_PATTERNS.map(parseBuiltIn)), ...builtIn, ...given];
    this.#allowList = [...(file ?? []), ...given].some((pattern) => !pattern.exclude);
  }

  split(labels: Iterable<Label>): { identity: LabelSet; information: LabelSet } {
    const identity: Label[] = [];
    const information: Label[] = [];
    for (const label of labels) (this.#counts(label) ? identity : information).push(label);
    return { identity: LabelSet.of(identity), information: LabelSet.of(information) };
  }

  #counts(label: Label): boolean {
    let included = 0;
    let excluded = 0;
    for (const pattern of this.#patterns) {
      if (pattern.source !== '' && pattern.source !== label.source) continue;
      const length = pattern.match(label.key);
      if (length === undefined) continue;
      if (!pattern.exclude) included = Math.max(included, length);
      else excluded = excluded === 0 ? length : Math.min(excluded, length);
    }
    return included > excluded || (!this.#allowList && excluded === 0);
  }
}

function parsePattern(text: string, regex: RegexEngine): Pattern {
  const { source, exclude, expression } = splitPattern(text);
  try {
    const compiled = regex.compile(expression);
    return { source, exclude, match: (key) => compiled.prefixLength(key) };
  } catch (cause) {
    throw new CiliumError('InvalidArgument', `label pattern "${text}" is not a regular expression`, { text }, cause);
  }
}

/** JavaScript's own engine is a hundred times faster, and nobody can make these blow up. */
function parseBuiltIn(text: string): Pattern {
  const { source, exclude, expression } = splitPattern(text);
  const compiled = new RegExp(expression, 'y');
  return {
    source,
    exclude,
    match: (key) => {
      compiled.lastIndex = 0;
      return compiled.exec(key)?.[0].length;
    },
  };
}

function splitPattern(text: string): { source: string; exclude: boolean; expression: string } {
  const colon = text.indexOf(':');
  const rest = text.slice(colon + 1);
  if (rest === '') throw new CiliumError('InvalidArgument', `label pattern "${text}" has no expression`, { text });
  const exclude = rest.startsWith('!');
  return { source: colon < 0 ? '' : text.slice(0, colon), exclude, expression: exclude ? rest.slice(1) : rest };
}

function parsePrefixFile(content: unknown): Pattern[] {
  const fail = (what: string): never => {
    throw new CiliumError('InvalidArgument', `label prefix file: ${what}`);
  };
  if (!isObject(content)) return fail('expected an object');
  if (content['version'] !== 1) return fail('version must be 1');
  const prefixes = content['valid-prefixes'];
  if (!Array.isArray(prefixes)) return fail('valid-prefixes must be a list');
  return prefixes.map((entry: unknown, index) => {
    const where = `valid-prefixes[${index}]`;
    if (!isObject(entry)) return fail(`${where} must be an object`);
    const { prefix, source, invert = false } = entry;
    if (typeof prefix !== 'string' || prefix === '') return fail(`${where}.prefix must be a text that is not empty`);
    if (typeof source !== 'string' || source === '') return fail(`${where}.source must be a text that is not empty`);
    if (typeof invert !== 'boolean') return fail(`${where}.invert must be true or false`);
    return { source, exclude: invert, match: (key) => (key.startsWith(prefix) ? prefix.length : undefined) };
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
