// SPDX-License-Identifier: Apache-2.0

/**
 * The engine for regular expressions that people write: RE2's syntax (no look-around, no back-references), and time
 * linear in the text whatever the pattern.
 *
 * The package is loaded with the first pattern: most commands and most policies have none.
 */
import { createRequire } from 'node:module';
import type * as Re2js from 're2js';
import { CiliumError } from '../errors/cilium-error.ts';

/** Of a pattern; its automaton is bounded too, since time grows with text times automaton. */
const MAX_PATTERN_CHARS = 16_384;
const MAX_INSTRUCTIONS = 10_000;
const MAX_MESSAGE_CHARS = 120;

const require = createRequire(import.meta.url);

/** The `RegexEngine` of identity/ and policy/. */
export const re2 = {
  /** Throws `InvalidArgument` with what is wrong. */
  compile(pattern: string): Re2Regex {
    if (pattern.length > MAX_PATTERN_CHARS) throw tooLarge(`it has more than ${MAX_PATTERN_CHARS} characters`);
    const { RE2JS, RE2JSSyntaxException } = require('re2js') as typeof Re2js;
    let compiled;
    try {
      compiled = RE2JS.compile(pattern);
    } catch (error) {
      if (!(error instanceof RE2JSSyntaxException)) throw error;
      throw new CiliumError('InvalidArgument', messageOf(error.message), { pattern });
    }
    if (compiled.programSize() > MAX_INSTRUCTIONS) throw tooLarge('its repetitions or alternatives are too many');
    return new Re2Regex(compiled);
  },
};

class Re2Regex {
  readonly #compiled: Re2js.RE2JS;

  constructor(compiled: Re2js.RE2JS) {
    this.#compiled = compiled;
  }

  matches(text: string): boolean {
    return this.#compiled.testExact(text);
  }

  prefixLength(text: string): number | undefined {
    const matcher = this.#compiled.matcher(text);
    return matcher.lookingAt() ? matcher.end() : undefined;
  }
}

/** Without its beginning, which says that it is about a regular expression, and without the end of a long pattern. */
function messageOf(message: string): string {
  const what = message.replace(/^error parsing regexp: /, '');
  return what.length > MAX_MESSAGE_CHARS ? `${what.slice(0, MAX_MESSAGE_CHARS)}…` : what;
}

function tooLarge(why: string): CiliumError {
  return new CiliumError('InvalidArgument', `expression too large: ${why}`);
}
