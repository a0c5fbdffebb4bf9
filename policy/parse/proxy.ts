// SPDX-License-Identifier: Apache-2.0

/** Members of a port rule that need a proxy: L7 rules, server names, TLS contexts, listeners. */
import type { L7Rules, Listener, TlsContext } from '../l7/rules.ts';
import type { PortRule, PortSpec } from '../rule.ts';
import type { Cursor, Members } from './cursor.ts';
import { readL7Rules, readSecret } from './l7.ts';
import type { PortRulePlace } from './ports.ts';

const MAX_LISTENER_PRIORITY = 100;

const NEEDS_PROXY =
  'this needs a proxy, and there is none; an agent with --l7-rules=drop takes it in and drops what the proxy would judge';

const WRITTEN_AS = {
  l7: 'rules',
  serverNames: 'serverNames',
  terminatingTls: 'terminatingTLS',
  originatingTls: 'originatingTLS',
  listener: 'listener',
} as const;

export function readProxyMembers(
  members: Members,
  ports: readonly PortSpec[],
  place: PortRulePlace,
): Omit<PortRule, 'ports'> {
  const l7 = members.read('rules', readL7Rules);
  const serverNames = members.read('serverNames', (list) => list.list(readServerName));
  const terminatingTls = members.read('terminatingTLS', readTlsContext);
  const originatingTls = members.read('originatingTLS', readTlsContext);
  const listener = members.read('listener', readListener);
  const proxy = {
    ...(l7 === undefined ? {} : { l7 }),
    ...(serverNames === undefined || serverNames.length === 0 ? {} : { serverNames }),
    ...(terminatingTls === undefined ? {} : { terminatingTls }),
    ...(originatingTls === undefined ? {} : { originatingTls }),
    ...(listener === undefined ? {} : { listener }),
  };
  if (!members.cursor.context.language.l7) {
    for (const name of Object.keys(proxy) as (keyof typeof proxy)[]) {
      members.get(WRITTEN_AS[name])?.unsupported(NEEDS_PROXY);
    }
    return {};
  }
  if (l7 !== undefined) checkL7(members.get('rules')!, l7, ports, place);
  if (proxy.serverNames !== undefined && l7 !== undefined && terminatingTls === undefined) {
    members
      .get('serverNames')
      ?.fail('serverNames beside L7 rules need terminatingTLS, which lets the proxy see the requests');
  }
  if (listener !== undefined) {
    if (place.direction === 'ingress') members.get('listener')?.fail('a listener is possible on egress only');
    if (l7 !== undefined) members.get('listener')?.fail('a listener and L7 rules cannot stand in one port rule');
  }
  return proxy;
}

/** What L7 rules ask of the ports they stand beside, and of their place. */
function checkL7(cursor: Cursor, { kind }: L7Rules, ports: readonly PortSpec[], place: PortRulePlace): void {
  if (ports.some(({ port }) => port === 0)) cursor.fail('L7 rules need a port; "0" is none');
  if (place.node && (place.direction === 'ingress' || kind === 'http' || kind === 'kafka')) {
    cursor.fail('policy of the host has no L7 rules but DNS on egress');
  }
  if (kind === 'dns') {
    if (place.direction === 'ingress') cursor.fail('DNS rules are possible on egress only');
    if (ports.length === 0) cursor.fail('DNS rules need ports');
    if (ports.some(({ endPort }) => endPort !== undefined)) cursor.fail('DNS rules need single ports, not a range');
  } else if (ports.some(({ protocol }) => protocol !== 'TCP')) {
    cursor.fail(`${kind} rules need protocol TCP written at every port`);
  }
}

function readServerName(cursor: Cursor): string | undefined {
  return cursor.nonEmptyString();
}

function readTlsContext(cursor: Cursor): TlsContext | undefined {
  return cursor.object((members) => {
    const secret = members.required('secret', readSecret);
    const trustedCA = members.read('trustedCA', (member) => member.string());
    const certificate = members.read('certificate', (member) => member.string());
    const privateKey = members.read('privateKey', (member) => member.string());
    return {
      secret: secret ?? { name: '' },
      ...(trustedCA === undefined ? {} : { trustedCA }),
      ...(certificate === undefined ? {} : { certificate }),
      ...(privateKey === undefined ? {} : { privateKey }),
    };
  });
}

function readListener(cursor: Cursor): Listener | undefined {
  return cursor.object((members) => {
    const envoyConfig = members.required('envoyConfig', (member) =>
      member.object((inner) => {
        const kind = inner.read('kind', (text) => text.string());
        const name = inner.required('name', (text) => text.nonEmptyString());
        return { ...(kind === undefined ? {} : { kind }), name: name ?? '' };
      }),
    );
    const name = members.required('name', (member) => member.nonEmptyString());
    const priority = members.read('priority', (member) => member.integer(1, MAX_LISTENER_PRIORITY));
    return {
      envoyConfig: envoyConfig ?? { name: '' },
      name: name ?? '',
      ...(priority === undefined ? {} : { priority }),
    };
  });
}
