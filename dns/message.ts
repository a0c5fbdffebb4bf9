// SPDX-License-Identifier: Apache-2.0

/**
 * The part of DNS messages (RFC 1035, EDNS: RFC 6891) that a server has to understand which answers for a few names and
 * passes the rest on as it came.
 *
 * dns-packet reads and writes records. Before it sees a query the counts are checked (it makes room for as many records
 * as a header claims), and the question is never written anew: replies begin with the bytes that were asked.
 */
import { decode, encode, type Answer } from 'dns-packet';
import type { IpAddress } from '../net/ip.ts';

export const HEADER_BYTES = 12;
/** RFC 1035 4.2.1: what every client takes over UDP. */
const PLAIN_UDP_BYTES = 512;
/** What fits into every packet on the way (the DNS community's value since 2020); we send no larger answers over UDP. */
const OWN_UDP_BYTES = 1_232;
export const MAX_MESSAGE_BYTES = 65_535;
/** A question, EDNS and a signature; nobody asks longer. */
export const MAX_QUERY_BYTES = 4_096;
/** OPT and TSIG. */
const MAX_ADDITIONAL_RECORDS = 2;
const MAX_LABEL_BYTES = 63;

const FLAG_RESPONSE = 0x8000;
const FLAG_AUTHORITATIVE = 0x0400;
const FLAG_TRUNCATED = 0x0200;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;
const OPCODE_MASK = 0x7800;
const RCODE_MASK = 0x000f;

/** RFC 1035 4.1.1, RFC 6891 9. */
export const RCODE = { NoError: 0, FormErr: 1, ServFail: 2, NxDomain: 3, NotImp: 4, Refused: 5, BadVers: 16 } as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

export const TYPE = { A: 1, PTR: 12, AAAA: 28, IXFR: 251, AXFR: 252, ANY: 255 } as const;
export const CLASS_IN = 1;

export interface Query {
  /** As it came. */
  readonly bytes: Buffer;
  readonly id: number;
  /** Lower case, no dot at the end, "" for the root; undefined: no name that a container could have. */
  readonly name: string | undefined;
  readonly type: number;
  readonly class: number;
  /** Where the question ends. */
  readonly questionEnd: number;
  readonly edns: { readonly version: number } | undefined;
  /** How long a reply over UDP may be. */
  readonly maxUdpBytes: number;
}

/** What somebody sent: a query, something that deserves a reply of its own, or nothing to answer at all. */
export type Received = { readonly query: Query } | { readonly reply: Buffer | undefined };

/** Never throws, whatever the bytes. */
export function readQuery(bytes: Buffer): Received {
  if (bytes.length < HEADER_BYTES) return { reply: undefined };
  const flags = bytes.readUInt16BE(2);
  if ((flags & FLAG_RESPONSE) !== 0) return { reply: undefined }; // to answer an answer may go on for ever
  if ((flags & OPCODE_MASK) !== 0) return { reply: bareReply(bytes, RCODE.NotImp) };
  const malformed = { reply: bareReply(bytes, RCODE.FormErr) };
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at));
  if (questions !== 1 || answers !== 0 || authorities !== 0 || additionals! > MAX_ADDITIONAL_RECORDS) return malformed;
  const question = readQuestion(bytes);
  if (question === undefined) return malformed;
  let records: readonly Answer[];
  try {
    records = decode(bytes).additionals ?? [];
  } catch {
    return malformed;
  }
  const options = records.filter((record) => record.type === 'OPT');
  const [option] = options;
  if (options.length > 1) return malformed;
  return {
    query: {
      bytes,
      id: bytes.readUInt16BE(0),
      ...question,
      edns: option && { version: option.ednsVersion },
      maxUdpBytes: option ? Math.max(PLAIN_UDP_BYTES, option.udpPayloadSize) : PLAIN_UDP_BYTES,
    },
  };
}

/** Records of a name for its own query: as many as fit into `maxBytes`, with the truncation mark if that is not all. */
export function answerReply(query: Query, answers: readonly Answer[], maxBytes: number): Buffer {
  const size = (count: number): number => writeReply(query, answers.slice(0, count), 0, RCODE.NoError).length;
  let count = answers.length;
  if (size(count) > maxBytes) {
    const perAnswer = (size(count) - size(0)) / count;
    count = Math.max(0, Math.floor((maxBytes - size(0)) / perAnswer));
    while (count > 0 && size(count) > maxBytes) count--;
  }
  const flags = FLAG_AUTHORITATIVE | (count < answers.length ? FLAG_TRUNCATED : 0);
  return writeReply(query, answers.slice(0, count), flags, RCODE.NoError);
}

/** A reply without records. */
export function errorReply(query: Query, rcode: Rcode): Buffer {
  return writeReply(query, [], 0, rcode);
}

/** The reply of somebody else, cut to its question when it is longer than the client takes. */
export function fitted(query: Query, reply: Buffer, maxBytes: number): Buffer {
  if (reply.length <= maxBytes) return reply;
  return writeReply(query, [], FLAG_TRUNCATED, RCODE.NoError);
}

/** How long a reply that we make may be over UDP. */
export function ownUdpLimit(query: Query): number {
  return Math.min(query.maxUdpBytes, query.edns ? OWN_UDP_BYTES : PLAIN_UDP_BYTES);
}

/** Whether these bytes answer this query, asked under `id`: the same number and the same question. */
export function isReplyTo(query: Query, id: number, bytes: Buffer): boolean {
  if (bytes.length < HEADER_BYTES || bytes.readUInt16BE(0) !== id) return false;
  if ((bytes.readUInt16BE(2) & (FLAG_RESPONSE | OPCODE_MASK)) !== FLAG_RESPONSE) return false;
  // A server that did not understand the question need not repeat it.
  if (bytes.readUInt16BE(4) === 0) return rcodeOf(bytes) !== RCODE.NoError && bytes.length === HEADER_BYTES;
  if (bytes.readUInt16BE(4) !== 1 || bytes.length < query.questionEnd) return false;
  const text = (message: Buffer): string => message.toString('latin1', HEADER_BYTES, query.questionEnd).toLowerCase();
  return text(bytes) === text(query.bytes);
}

export function rcodeOf(reply: Buffer): number {
  return reply.readUInt16BE(2) & RCODE_MASK;
}

/** The same message under another number. */
export function withId(message: Buffer, id: number): Buffer {
  const copy = Buffer.from(message);
  copy.writeUInt16BE(id, 0);
  return copy;
}

export function addressRecord(name: string, address: IpAddress, ttl: number): Answer {
  return { type: address.family === 4 ? 'A' : 'AAAA', name, ttl, data: address.toString() };
}

/** Walks the only question; undefined when it ends beyond the message or is compressed, which nothing before it allows. */
function readQuestion(bytes: Buffer): Pick<Query, 'name' | 'type' | 'class' | 'questionEnd'> | undefined {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length = bytes[at]; length !== 0; length = bytes[at]) {
    if (length === undefined || length > MAX_LABEL_BYTES) return undefined;
    labels.push(bytes.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const questionEnd = at + 5;
  if (questionEnd > bytes.length) return undefined;
  const isPlain = labels.every((label) => /^[\w-]+$/.test(label));
  return {
    name: isPlain ? labels.join('.').toLowerCase() : undefined,
    type: bytes.readUInt16BE(at + 1),
    class: bytes.readUInt16BE(at + 3),
    questionEnd,
  };
}

/** To a message whose question could not be read. */
function bareReply(bytes: Buffer, rcode: Rcode): Buffer {
  const reply = Buffer.alloc(HEADER_BYTES);
  bytes.copy(reply, 0, 0, 2);
  reply.writeUInt16BE(replyFlags(bytes) | rcode, 2);
  return reply;
}

function writeReply(query: Query, answers: readonly Answer[], flags: number, rcode: Rcode): Buffer {
  const head = Buffer.from(query.bytes.subarray(0, query.questionEnd));
  head.writeUInt16BE(replyFlags(query.bytes) | flags | (rcode & RCODE_MASK), 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(answers.length, 6);
  head.writeUInt16BE(0, 8);
  head.writeUInt16BE(query.edns ? 1 : 0, 10);
  return Buffer.concat([head, writeRecords([...answers, ...(query.edns ? [ednsRecord(rcode)] : [])])]);
}

function replyFlags(query: Buffer): number {
  const kept = query.readUInt16BE(2) & (OPCODE_MASK | FLAG_RECURSION_DESIRED);
  return kept | FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE;
}

function ednsRecord(rcode: Rcode): Answer {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize: OWN_UDP_BYTES,
    extendedRcode: rcode >> 4,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
}

/** Records as they stand in a message; they name nothing in it, so they may follow anything. */
function writeRecords(records: Answer[]): Buffer {
  return encode({ answers: records }).subarray(HEADER_BYTES);
}
