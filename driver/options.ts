// SPDX-License-Identifier: Apache-2.0

/** What `docker network create --opt` and `--network name=…,driver-opt=…` may say to this driver. */
import { CiliumError } from '../errors/cilium-error.ts';

export const MTU_OPTION = 'com.docker.network.driver.mtu';
export const PUBLISHED_PORTS_OPTION = 'cilium.published-ports';

/** Containers always have IPv6, which needs 1280 bytes (RFC 8200, section 5). */
const MTU_MIN = 1280;
const MTU_MAX = 65_535;
/** Docker's own; the engine itself acts on them, whatever the driver. */
const DOCKER_PREFIX = 'com.docker.network.';
const ENGINE_OPTIONS = ['advertise_addr_nmsgs', 'advertise_addr_ms'].map((name) => DOCKER_PREFIX + name);

export interface NetworkOptions {
  readonly mtu: number | undefined;
  /** Containers with `-p` may run; nothing is published. */
  readonly ignorePublishedPorts: boolean;
}

/** Throws `InvalidArgument` for an option that is not known or has a value that is not. */
export function parseNetworkOptions(options: Readonly<Record<string, string>>): NetworkOptions {
  const known = [MTU_OPTION, PUBLISHED_PORTS_OPTION, ...ENGINE_OPTIONS];
  const unknown = Object.keys(options).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new CiliumError(
      'InvalidArgument',
      `unknown network option ${unknown.map((name) => `"${name}"`).join(', ')}: this driver knows ${known.join(', ')}`,
    );
  }
  const ports = options[PUBLISHED_PORTS_OPTION] ?? 'refuse';
  if (ports !== 'refuse' && ports !== 'ignore') {
    throw new CiliumError('InvalidArgument', `${PUBLISHED_PORTS_OPTION}: expected refuse or ignore, not "${ports}"`);
  }
  return { mtu: parseMtu(options[MTU_OPTION]), ignorePublishedPorts: ports === 'ignore' };
}

/** The options of one endpoint, as far as they are the driver's: it knows none yet, Docker's own pass. */
export function parseEndpointOptions(options: Readonly<Record<string, unknown>>): Record<string, string> {
  const unknown = Object.keys(options).filter((name) => !name.startsWith(DOCKER_PREFIX));
  if (unknown.length > 0) {
    throw new CiliumError(
      'InvalidArgument',
      `unknown driver-opt ${unknown.map((name) => `"${name}"`).join(', ')}: this driver knows none for one container`,
    );
  }
  return Object.fromEntries(
    Object.entries(options).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

function parseMtu(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const mtu = /^[0-9]{1,5}$/.test(text) ? Number(text) : NaN;
  if (mtu >= MTU_MIN && mtu <= MTU_MAX) return mtu;
  throw new CiliumError(
    'InvalidArgument',
    `${MTU_OPTION}: expected a number from ${MTU_MIN} to ${MTU_MAX}, not "${text}"`,
  );
}
