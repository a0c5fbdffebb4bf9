// SPDX-License-Identifier: Apache-2.0

/** Checks a change of options against those that exist, so that services see only names and values in their one form. */
import type { ConfigurationMap, DaemonConfigurationSpec } from '../../api/models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';

const SWITCH: Readonly<Record<string, 'Enabled' | 'Disabled'>> = {
  ...Object.fromEntries(['true', 'on', 'enable', 'enabled', '1'].map((word) => [word, 'Enabled'] as const)),
  ...Object.fromEntries(['false', 'off', 'disable', 'disabled', '0'].map((word) => [word, 'Disabled'] as const)),
};

/**
 * The change with names spelled as the agent spells them, and the words for on and off as Enabled and Disabled where an
 * option is a switch; throws `InvalidArgument` for an option that does not exist.
 */
export function normalizeChange(change: DaemonConfigurationSpec, realized: ConfigurationMap): DaemonConfigurationSpec {
  if (change.options === undefined) return change;
  const names = Object.keys(realized);
  const options = Object.entries(change.options).map(([given, value]): [string, string] => {
    const name = names.find((known) => known.toLowerCase() === given.toLowerCase());
    if (name === undefined) {
      throw new CiliumError('InvalidArgument', `unknown option "${given}" (there are: ${names.sort().join(', ')})`);
    }
    return [name, isSwitch(realized[name]!) ? switchValue(name, value) : value];
  });
  return { ...change, options: Object.fromEntries(options) };
}

function isSwitch(value: string): boolean {
  return value === 'Enabled' || value === 'Disabled';
}

function switchValue(name: string, text: string): string {
  const value = SWITCH[text.toLowerCase()];
  if (value === undefined) {
    throw new CiliumError('InvalidArgument', `option ${name} is a switch: "${text}" is neither true nor false`);
  }
  return value;
}
