// SPDX-License-Identifier: Apache-2.0

/** Entries of maps as `cilium bpf … list` and `cilium map get` show them; the forms are Cilium's. */
import type { EndpointInfo } from './endpoint-map.ts';
import type { IpcacheInfo } from './ipcache-map.ts';

const FLAG_INTERNAL = 2;

export function endpointText(info: EndpointInfo): string {
  if (info.host) return '(localhost)';
  const flags = (info.internal ? FLAG_INTERNAL : 0).toString(16).padStart(4, '0');
  const id = info.id.toString().padEnd(5);
  const identity = info.identity.toString().padEnd(5);
  return (
    `id=${id} sec_id=${identity} flags=0x${flags} ifindex=${info.ifindex.toString().padEnd(3)} ` +
    `mac=${info.mac.toString().toUpperCase()} nodemac=${info.hostMac.toString().toUpperCase()} slot=${info.policySlot}`
  );
}

export function ipcacheText({ identity, tunnelEndpoint, skipTunnel }: IpcacheInfo): string {
  const flags = tunnelEndpoint === undefined ? '<none>' : skipTunnel === true ? 'skiptunnel,hastunnel' : 'hastunnel';
  return `identity=${identity} encryptkey=0 tunnelendpoint=${tunnelEndpoint?.toString() ?? '0.0.0.0'} flags=${flags}`;
}
