// SPDX-License-Identifier: Apache-2.0

/** The labels behind identity numbers: from the agent, or only those of the reserved ones when there is no agent. */
import { isCiliumError } from '../errors/cilium-error.ts';
import { reservedIdentities } from '../identity/numeric-identity.ts';
import type { Context } from './context.ts';

/** Undefined: numbers are wanted. */
export type IdentityLabels = ReadonlyMap<number, readonly string[]> | undefined;

export async function loadIdentityLabels(context: Context, numeric: boolean | undefined): Promise<IdentityLabels> {
  if (numeric === true) return undefined;
  try {
    return new Map((await context.client().identities()).map(({ id, labels }) => [id, labels]));
  } catch (error) {
    if (!isCiliumError(error, 'AgentUnavailable')) throw error;
    context.warn('The agent does not answer: identities are shown as numbers.');
    return new Map(Array.from(reservedIdentities(), ([id, labels]) => [id, labels.toTexts()]));
  }
}
