// SPDX-License-Identifier: Apache-2.0

/** Identities of the prefixes that rules mention: one for each prefix, as long as some rule mentions it. */
import { cidrLabels, type Families, type NumericIdentity } from '../identity/numeric-identity.ts';
import type { LabelSet } from '../identity/label-set.ts';
import type { Prefix } from '../net/ip.ts';

/**
 * Who gives numbers to prefixes, and maps addresses to them. Called once for each prefix that is in use.
 *
 * Addresses must not get a new identity before the policy maps have the upserts that follow from it, and must have lost
 * an old one before the deletes are written: else packets are judged by an identity that no entry knows.
 */
export interface CidrIdentitySource {
  acquire(prefix: Prefix): NumericIdentity;
  release(prefix: Prefix): void;
}

interface Use {
  readonly identity: NumericIdentity;
  readonly prefix: Prefix;
  count: number;
}

export class CidrIdentities {
  readonly #source: CidrIdentitySource;
  readonly #families: Families;
  readonly #uses = new Map<string, Use>();

  constructor(source: CidrIdentitySource, families: Families) {
    this.#source = source;
    this.#families = families;
  }

  /** Counts one use of each; returns the identities that are new. When the source throws nothing has changed. */
  acquire(prefixes: readonly Prefix[]): [NumericIdentity, LabelSet][] {
    const added: [NumericIdentity, LabelSet][] = [];
    for (const [index, prefix] of prefixes.entries()) {
      const use = this.#uses.get(prefix.toString());
      if (use !== undefined) {
        use.count++;
        continue;
      }
      try {
        const identity = this.#source.acquire(prefix);
        this.#uses.set(prefix.toString(), { identity, prefix, count: 1 });
        added.push([identity, cidrLabels(prefix, this.#families)]);
      } catch (error) {
        this.release(prefixes.slice(0, index));
        throw error;
      }
    }
    return added;
  }

  /** The identity of a prefix that rules mention, and how often they do. */
  useOf(prefix: Prefix): { readonly identity: NumericIdentity; readonly count: number } | undefined {
    return this.#uses.get(prefix.toString());
  }

  /** Ends one use of each; returns the identities that are not needed any more. */
  release(prefixes: readonly Prefix[]): NumericIdentity[] {
    const gone: NumericIdentity[] = [];
    for (const prefix of prefixes) {
      const use = this.#uses.get(prefix.toString())!;
      if (--use.count > 0) continue;
      this.#uses.delete(prefix.toString());
      this.#source.release(use.prefix);
      gone.push(use.identity);
    }
    return gone;
  }
}
