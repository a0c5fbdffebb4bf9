// SPDX-License-Identifier: Apache-2.0

/** The ways to name an endpoint in a path: a number, or `prefix:value`. */
import type { Endpoint } from '../../api/models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import { IpAddress } from '../../net/ip.ts';

type Matcher = (endpoint: Endpoint, value: string) => boolean;

const hasAddress = (family: 'ipv4' | 'ipv6'): Matcher => {
  return (endpoint, value) => {
    const wanted = IpAddress.parse(value).toString();
    return endpoint.status.networking.addressing.some((pair) => pair[family] === wanted);
  };
};

const MATCHERS: Readonly<Record<string, Matcher>> = {
  'cilium-local': (endpoint, value) => endpoint.id === Number(value),
  'container-id': (endpoint, value) =>
    endpoint.status['external-identifiers']['container-id']?.startsWith(value) ?? false,
  'container-name': (endpoint, value) => endpoint.status['external-identifiers']['container-name'] === value,
  'docker-endpoint': (endpoint, value) => endpoint.status['external-identifiers']['docker-endpoint-id'] === value,
  ipv4: hasAddress('ipv4'),
  ipv6: hasAddress('ipv6'),
};

export const ENDPOINT_PREFIXES: readonly string[] = Object.keys(MATCHERS);

/**
 * Finds the endpoint that `reference` names; throws `InvalidArgument` for a form that does not exist
 * or that fits several, `NotFound` when none fits.
 */
export function findEndpoint(endpoints: readonly Endpoint[], reference: string): Endpoint {
  const colon = reference.indexOf(':');
  const prefix = colon < 0 ? 'cilium-local' : reference.slice(0, colon);
  const value = reference.slice(colon + 1);
  const matches = Object.hasOwn(MATCHERS, prefix) ? MATCHERS[prefix]! : undefined;
  if (matches === undefined) {
    const known = ENDPOINT_PREFIXES.join(', ');
    throw new CiliumError('InvalidArgument', `unknown endpoint ID prefix "${prefix}" (known: ${known})`);
  }
  if (prefix === 'cilium-local' && !/^[1-9][0-9]{0,4}$/.test(value)) {
    throw new CiliumError('InvalidArgument', `"${value}" is not an endpoint ID (a number from 1 to 65535)`);
  }
  if (value === '') throw new CiliumError('InvalidArgument', `endpoint ID "${reference}" has nothing after the prefix`);
  const found = endpoints.filter((endpoint) => matches(endpoint, value));
  if (found.length === 0) throw new CiliumError('NotFound', `endpoint ${reference} not found`);
  if (found.length > 1) {
    const ids = found.map((endpoint) => endpoint.id).join(', ');
    throw new CiliumError('InvalidArgument', `"${reference}" fits ${found.length} endpoints: ${ids}; give one number`);
  }
  return found[0]!;
}
