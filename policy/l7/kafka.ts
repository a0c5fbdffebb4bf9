// SPDX-License-Identifier: Apache-2.0

/** Which Kafka requests rules let through (policy-language 8.2). */
import { KAFKA_API_KEYS, type KafkaRule } from './rules.ts';

export interface KafkaRequest {
  readonly apiKey: number;
  readonly apiVersion: number;
  readonly clientId: string;
  readonly topics: readonly string[];
}

const ROLE_KEYS: Readonly<Record<'produce' | 'consume', readonly number[]>> = {
  produce: [0, 3, 18],
  consume: [1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18],
};

/** Requests of these keys carry topics; to all others a rule's topic means nothing. */
const TOPIC_KEYS = [0, 1, 2, 3, 4, 5, 6, 8, 9, 19, 20, 21, 23, 24, 27, 28, 34, 35, 37];

/** True when every topic of the request is allowed by some rule; a request without topics needs one rule. */
export function kafkaAllowed(rules: readonly KafkaRule[], request: KafkaRequest): boolean {
  const matching = rules.filter((rule) => matchesApart(rule, request));
  if (!TOPIC_KEYS.includes(request.apiKey) || request.topics.length === 0) return matching.length > 0;
  return request.topics.every((topic) => matching.some((rule) => rule.topic === undefined || rule.topic === topic));
}

/** All that a rule asks besides the topic. */
function matchesApart({ role, apiKey, apiVersion, clientID }: KafkaRule, request: KafkaRequest): boolean {
  if (role !== undefined && !ROLE_KEYS[role].includes(request.apiKey)) return false;
  if (apiKey !== undefined && KAFKA_API_KEYS.findIndex((name) => name === apiKey) !== request.apiKey) return false;
  if (apiVersion !== undefined && apiVersion !== request.apiVersion) return false;
  return clientID === undefined || clientID === request.clientId;
}
