// SPDX-License-Identifier: Apache-2.0

/** Labels and names come from images, which may be anybody's: what would steer a terminal is written as an escape. */

const STEERING = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g;
const BREAKING = /[\t\n\r]/g;

/** Text of several lines. */
export function printable(text: string): string {
  return text.replace(STEERING, escaped);
}

/** Text that has to stay in its line and in its column. */
export function printableCell(text: string): string {
  return printable(text).replace(BREAKING, escaped);
}

function escaped(character: string): string {
  const short = { '\t': '\\t', '\n': '\\n', '\r': '\\r' }[character];
  return short ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
