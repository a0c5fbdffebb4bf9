// SPDX-License-Identifier: Apache-2.0

/**
 * The C structures as our codecs see them, and the comparison with what clang compiled.
 *
 * A codec takes its offsets from here, so a structure that changed on one side only is found by the layout test, and
 * by the agent before it loads the object.
 */
import type { ObjectTypes } from './btf.ts';

export interface Layout<Field extends string = string> {
  readonly cName: string;
  readonly size: number;
  /** Byte offset of every member but padding. */
  readonly at: Readonly<Record<Field, number>>;
}

export function layout<Field extends string>(cName: string, size: number, at: Record<Field, number>): Layout<Field> {
  return { cName, size, at };
}

const PADDING = /^pad\d*$/;

/** What differs, one sentence each; empty when both sides agree. Structures that the object does not have are left out. */
export function compareLayouts(layouts: readonly Layout[], types: ObjectTypes): string[] {
  const problems: string[] = [];
  for (const ours of layouts) {
    const theirs = types.structs.get(ours.cName);
    if (theirs === undefined) continue;
    if (theirs.size !== ours.size) problems.push(`${ours.cName} has ${theirs.size} bytes in C, ${ours.size} here`);
    for (const member of theirs.members) {
      const offset = ours.at[member.name];
      if (offset === member.offset || (offset === undefined && PADDING.test(member.name))) continue;
      problems.push(`${ours.cName}.${member.name} is at ${member.offset} in C, ${offset ?? 'not known'} here`);
    }
    for (const field of Object.keys(ours.at)) {
      if (!theirs.members.some((member) => member.name === field)) {
        problems.push(`${ours.cName}.${field} does not exist in C`);
      }
    }
  }
  return problems;
}
