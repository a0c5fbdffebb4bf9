// SPDX-License-Identifier: Apache-2.0

/**
 * Regular expressions as people write them in rules and label patterns: RE2's syntax, matched in time linear in the
 * text. The engine is given to this room and to policy/ from outside, since it is a package.
 */
export interface RegexEngine {
  /** Throws `InvalidArgument`; its message says what is wrong with the pattern. */
  compile(pattern: string): Regex;
}

export interface Regex {
  /** True when the whole text matches. */
  matches(text: string): boolean;
  /** Length of the match at the text's start, in UTF-16 units; undefined when there is none. */
  prefixLength(text: string): number | undefined;
}
