// SPDX-License-Identifier: Apache-2.0

/** Checks of policy without an agent. A module of its own, since most commands leave them to the agent. */
import { DATAPATH_LANGUAGE } from '../policy/language.ts';
import type { PolicySource } from '../policy/resources/policy-item.ts';
import { parseSources, type PolicyContent } from '../policy/resources/policy-source.ts';
import { re2 } from '../runtime/re2.ts';

/** Throws PolicyValidationError. `l7`: as if the agent took rules that need a proxy. */
export function checkPolicy(sources: readonly PolicySource[], { l7 }: { readonly l7: boolean }): PolicyContent {
  return parseSources(sources, { language: { ...DATAPATH_LANGUAGE, l7 }, regex: re2 });
}
