// SPDX-License-Identifier: Apache-2.0

/** Members of a port rule that need a proxy. */
import type { PortRule } from '../rule.ts';
import type { Members } from './cursor.ts';

const PROXY_MEMBERS = ['rules', 'serverNames', 'terminatingTLS', 'originatingTLS', 'listener'];

export function readProxyMembers(members: Members): Omit<PortRule, 'ports'> {
  members.unsupported(PROXY_MEMBERS, 'rules that need a proxy are not supported');
  return {};
}
