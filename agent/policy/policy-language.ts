// SPDX-License-Identifier: Apache-2.0

/** What rules may say to this agent. */
import { DATAPATH_LANGUAGE, type Language } from '../../policy/language.ts';
import type { AgentOptions } from '../options.ts';

/**
 * Stands in the policy maps where a proxy's port will: the kernel drops what would have to go there, with the reason
 * that no proxy was found.
 */
export const NO_PROXY_PORT = 1;

/** Of what is imported. */
export function importLanguage({ l7Rules }: Pick<AgentOptions, 'l7Rules'>): Language {
  return { ...DATAPATH_LANGUAGE, l7: l7Rules === 'drop' };
}

/** Of what was imported once: it stays in force, with what needs a proxy dropped, whatever the options are now. */
export const RESTORED_LANGUAGE: Language = { ...DATAPATH_LANGUAGE, l7: true };
