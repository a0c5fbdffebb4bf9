// SPDX-License-Identifier: Apache-2.0

/** What becomes of one message: an answer from the names of containers, from the host's servers, a refusal, or nothing. */
import type { Answer } from 'dns-packet';
import { isIPv4 } from 'node:net';
import type { Forwarder } from './forwarder.ts';
import {
  addressRecord,
  answerReply,
  CLASS_IN,
  errorReply,
  fitted,
  MAX_MESSAGE_BYTES,
  MAX_QUERY_BYTES,
  ownUdpLimit,
  RCODE,
  readQuery,
  TYPE,
  type Query,
} from './message.ts';
import { mayBeContainer, type NameTable } from './name-table.ts';
import type { RateLimit } from './rate-limit.ts';
import { addressOfReverseName } from './reverse-name.ts';

/** Containers come and go; whoever remembers an answer remembers it no longer than this. */
const TTL_S = 5;

export interface ResponderDeps {
  readonly names: NameTable;
  readonly forwarder: Pick<Forwarder, 'ask' | 'hasServers'>;
  /** Whether this address may ask at all: containers of this node, and the node itself. */
  readonly mayAsk: (address: string) => boolean;
  /** False while the names of other nodes are not complete yet. */
  readonly isComplete: () => boolean;
  readonly rate: Pick<RateLimit, 'admit'>;
}

export type Transport = 'udp' | 'tcp';

export class Responder {
  readonly #deps: ResponderDeps;
  #turn = 0;

  constructor(deps: ResponderDeps) {
    this.#deps = deps;
  }

  /** The reply to what `source` sent; undefined: none. Never rejects. */
  async respond(bytes: Buffer, source: string, transport: Transport): Promise<Buffer | undefined> {
    const { mayAsk, rate, forwarder } = this.#deps;
    const client = plainAddress(source);
    const isAllowed = mayAsk(client);
    if (isAllowed && !rate.admit(client)) return undefined;
    if (bytes.length > MAX_QUERY_BYTES) return undefined;
    const received = readQuery(bytes);
    if ('reply' in received) return isAllowed ? received.reply : undefined;
    const { query } = received;
    if (!isAllowed || query.type === TYPE.AXFR || query.type === TYPE.IXFR) return errorReply(query, RCODE.Refused);
    if (query.edns && query.edns.version > 0) return errorReply(query, RCODE.BadVers);
    const own = this.#own(query, client, transport);
    if (own) return own;
    const reply = await forwarder.ask(query, client, transport).catch(() => undefined);
    if (!reply) return errorReply(query, RCODE.ServFail);
    return fitted(query, reply, transport === 'udp' ? query.maxUdpBytes : MAX_MESSAGE_BYTES);
  }

  /** The reply that needs nobody else. */
  #own(query: Query, client: string, transport: Transport): Buffer | undefined {
    const { names, isComplete, forwarder } = this.#deps;
    const networks = names.networksOf(client);
    if (query.name === undefined || query.class !== CLASS_IN || networks === undefined) return undefined;
    const answers = this.#records(query, query.name, networks);
    if (answers) {
      return answerReply(query, answers, transport === 'udp' ? ownUdpLimit(query) : MAX_MESSAGE_BYTES);
    }
    if (!mayBeContainer(query.name, networks)) return undefined;
    // Nobody else may say that there is no such container while we do not know.
    if (!isComplete()) return errorReply(query, RCODE.ServFail);
    return forwarder.hasServers ? undefined : errorReply(query, RCODE.NxDomain);
  }

  /** Records of a name that is known, perhaps none of the type; undefined: the name is not known. */
  #records(query: Query, name: string, networks: readonly string[]): Answer[] | undefined {
    const { names } = this.#deps;
    const asked = addressOfReverseName(name);
    if (asked) {
      const found = names.nameOf(asked, networks);
      if (found === undefined) return undefined;
      const isAsked = query.type === TYPE.PTR || query.type === TYPE.ANY;
      return isAsked ? [{ type: 'PTR', name, ttl: TTL_S, data: found }] : [];
    }
    const addresses = names.lookup(name, networks);
    const families = { [TYPE.A]: [4], [TYPE.AAAA]: [6], [TYPE.ANY]: [4, 6] }[query.type] ?? [];
    const wanted = addresses?.filter(({ family }) => families.includes(family));
    return wanted && this.#rotated(wanted).map((address) => addressRecord(name, address, TTL_S));
  }

  /** Everyone is first in turn, so that clients that take the first share the load. */
  #rotated<T>(items: readonly T[]): T[] {
    const first = items.length === 0 ? 0 : this.#turn++ % items.length;
    return [...items.slice(first), ...items.slice(0, first)];
  }
}

/** Without what a dual-stack socket puts before an IPv4 address, and without a zone. */
function plainAddress(address: string): string {
  const plain = address.replace(/^::ffff:/, '').replace(/%.*$/, '');
  return isIPv4(plain) ? plain : address.replace(/%.*$/, '');
}
