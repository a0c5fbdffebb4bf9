// SPDX-License-Identifier: Apache-2.0

/** Which HTTP requests a rule lets through, and what it does to their headers (policy-language 8.1). */
import { isCiliumError } from '../../errors/cilium-error.ts';
import type { Regex, RegexEngine } from '../../identity/regex.ts';
import type { HeaderMatch, HttpRule } from './rules.ts';

export interface HttpRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly host: string;
  /** By name; a header that came several times has several values. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
}

/** The value of a secret, if it can be had. */
export type SecretValue = (match: HeaderMatch) => string | undefined;

/** Compiled, to be asked many times. */
export class HttpMatcher {
  readonly #rule: HttpRule;
  readonly #secrets: SecretValue;
  readonly #method: Regex | undefined;
  readonly #path: Regex | undefined;
  readonly #host: Regex | 'never' | undefined;

  constructor(rule: HttpRule, regex: RegexEngine, secrets: SecretValue = () => undefined) {
    this.#rule = rule;
    this.#secrets = secrets;
    this.#method = rule.method === undefined ? undefined : regex.compile(rule.method);
    this.#path = rule.path === undefined ? undefined : regex.compile(rule.path);
    this.#host = rule.host === undefined ? undefined : compileHost(rule.host, regex);
  }

  matches(request: HttpRequest): boolean {
    if (this.#method?.matches(request.method) === false || this.#path?.matches(request.path) === false) return false;
    if (this.#host === 'never' || this.#host?.matches(request.host) === false) return false;
    return (
      (this.#rule.headers ?? []).every((header) => headerMatches(header, request)) &&
      // With an action for a mismatch the rule matches all the same.
      (this.#rule.headerMatches ?? []).every((match) => match.mismatch !== undefined || this.#holds(match, request))
    );
  }

  /** The headers as they go on when this rule matches. */
  headersAfter(request: HttpRequest): Map<string, readonly string[]> {
    const headers = new Map(Array.from(request.headers, ([name, values]) => [name.toLowerCase(), values]));
    for (const match of this.#rule.headerMatches ?? []) {
      if (this.#holds(match, request)) continue;
      const name = match.name.toLowerCase();
      const value = this.#valueOf(match) ?? '';
      if (match.mismatch === 'ADD') headers.set(name, [...(headers.get(name) ?? []), value]);
      if (match.mismatch === 'REPLACE') headers.set(name, [value]);
      if (match.mismatch === 'DELETE') headers.delete(name);
    }
    return headers;
  }

  #holds(match: HeaderMatch, request: HttpRequest): boolean {
    const values = valuesOf(request, match.name);
    const wanted = this.#valueOf(match);
    return wanted === undefined ? values.length > 0 : values.includes(wanted);
  }

  #valueOf(match: HeaderMatch): string | undefined {
    return match.secret === undefined ? match.value : (this.#secrets(match) ?? match.value);
  }
}

/** A host is not checked at import; one that is no expression matches nothing. */
function compileHost(host: string, regex: RegexEngine): Regex | 'never' {
  try {
    return regex.compile(host);
  } catch (error) {
    if (isCiliumError(error, 'InvalidArgument')) return 'never';
    throw error;
  }
}

/** `Name: value` (cut at the first blank), or a name alone. */
function headerMatches(header: string, request: HttpRequest): boolean {
  const blank = header.indexOf(' ');
  if (blank < 0) return valuesOf(request, header).length > 0;
  return valuesOf(request, header.slice(0, blank).replace(/:+$/, '')).includes(header.slice(blank + 1));
}

function valuesOf(request: HttpRequest, name: string): readonly string[] {
  const wanted = name.toLowerCase();
  return Array.from(request.headers).flatMap(([key, values]) => (key.toLowerCase() === wanted ? values : []));
}
