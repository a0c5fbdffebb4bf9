// SPDX-License-Identifier: Apache-2.0

/** Netlink messages as bytes: headers, attributes and their nesting (uapi/linux/netlink.h). Host order is little-endian. */

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_DUMP = 0x300;
/** Of an answer in parts: what is listed changed in between. */
export const NLM_F_DUMP_INTR = 0x10;
/** Of an answer: its request is not repeated in it / attributes follow. */
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

const HEADER_BYTES = 16;
const ATTRIBUTE_BYTES = 4;
const ATTRIBUTE_TYPE_MASK = 0x3fff;
const NLA_F_NESTED = 0x8000;
const NLMSGERR_ATTR_MSG = 1;

const INITIAL_BYTES = 512;

/** Writes one message; grows as needed. */
export class MessageWriter {
  #buffer = Buffer.alloc(INITIAL_BYTES);
  #length = HEADER_BYTES;

  /** @param flags besides NLM_F_REQUEST */
  constructor(type: number, flags: number) {
    this.#buffer.writeUInt16LE(type, 4);
    this.#buffer.writeUInt16LE(flags | NLM_F_REQUEST, 6);
  }

  /** Fixed part of the message or of an attribute (struct ifinfomsg and the like). */
  raw(bytes: Uint8Array): this {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += align(bytes.length);
    return this;
  }

  attribute(type: number, payload: Uint8Array): this {
    this.#attributeHeader(type, payload.length);
    return this.raw(payload);
  }

  uint32(type: number, value: number): this {
    const payload = Buffer.alloc(4);
    payload.writeUInt32LE(value);
    return this.attribute(type, payload);
  }

  uint8(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value));
  }

  string(type: number, value: string): this {
    return this.attribute(type, Buffer.from(`${value}\0`));
  }

  /** An attribute whose payload `body` writes. */
  nested(type: number, body: () => void): this {
    const start = this.#length;
    this.#attributeHeader(type | NLA_F_NESTED, 0);
    body();
    this.#buffer.writeUInt16LE(this.#length - start, start);
    return this;
  }

  /** The message with its length and sequence number filled in. */
  finish(sequence: number): Buffer {
    this.#buffer.writeUInt32LE(this.#length, 0);
    this.#buffer.writeUInt32LE(sequence, 8);
    return this.#buffer.subarray(0, this.#length);
  }

  #attributeHeader(type: number, payloadBytes: number): void {
    this.#reserve(ATTRIBUTE_BYTES);
    this.#buffer.writeUInt16LE(ATTRIBUTE_BYTES + payloadBytes, this.#length);
    this.#buffer.writeUInt16LE(type, this.#length + 2);
    this.#length += ATTRIBUTE_BYTES;
  }

  #reserve(bytes: number): void {
    const needed = this.#length + align(bytes);
    if (needed <= this.#buffer.length) return;
    this.#buffer = Buffer.concat([this.#buffer], Math.max(needed, this.#buffer.length * 2));
  }
}

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Buffer;
}

/** The messages of one datagram. What is cut short is left out. */
export function* readMessages(data: Buffer): Generator<Message, void> {
  for (let at = 0; at + HEADER_BYTES <= data.length;) {
    const length = data.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > data.length) return;
    yield {
      type: data.readUInt16LE(at + 4),
      flags: data.readUInt16LE(at + 6),
      sequence: data.readUInt32LE(at + 8),
      payload: data.subarray(at + HEADER_BYTES, at + length),
    };
    at += align(length);
  }
}

/** Attributes by type, the nested flag removed; of two with the same type the last. */
export function readAttributes(data: Buffer, offset: number): Map<number, Buffer> {
  const attributes = new Map<number, Buffer>();
  for (let at = offset; at + ATTRIBUTE_BYTES <= data.length;) {
    const length = data.readUInt16LE(at);
    if (length < ATTRIBUTE_BYTES || at + length > data.length) break;
    const type = data.readUInt16LE(at + 2) & ATTRIBUTE_TYPE_MASK;
    attributes.set(type, data.subarray(at + ATTRIBUTE_BYTES, at + length));
    at += align(length);
  }
  return attributes;
}

export interface Acknowledgement {
  /** 0, or a positive errno. */
  readonly errno: number;
  /** The kernel's explanation; empty when it gives none. */
  readonly text: string;
}

/** The payload of an NLMSG_ERROR, which also says that all went well. */
export function readAcknowledgement(message: Message): Acknowledgement {
  const errno = Math.abs(message.payload.readInt32LE(0));
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno, text: '' };
  const requestBytes = (message.flags & NLM_F_CAPPED) === 0 ? message.payload.readUInt32LE(4) : HEADER_BYTES;
  const text = readAttributes(message.payload, 4 + align(requestBytes)).get(NLMSGERR_ATTR_MSG);
  return { errno, text: text === undefined ? '' : readString(text) };
}

/** Text up to its terminating zero. */
export function readString(data: Buffer): string {
  const end = data.indexOf(0);
  return data.toString('utf8', 0, end < 0 ? data.length : end);
}

function align(length: number): number {
  return (length + 3) & ~3;
}
