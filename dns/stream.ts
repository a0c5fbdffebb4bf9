// SPDX-License-Identifier: Apache-2.0

/** DNS messages in a TCP stream: each behind its length in two bytes (RFC 1035 4.2.2). */

const LENGTH_BYTES = 2;

export class StreamReader {
  #rest: Buffer = Buffer.alloc(0);

  /** Length of the message under way; undefined while that is not known. */
  get announced(): number | undefined {
    return this.#rest.length < LENGTH_BYTES ? undefined : this.#rest.readUInt16BE(0);
  }

  /** The messages that are complete with this chunk. */
  push(chunk: Buffer): Buffer[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const messages: Buffer[] = [];
    for (let length = this.announced; length !== undefined; length = this.announced) {
      const end = LENGTH_BYTES + length;
      if (this.#rest.length < end) break;
      messages.push(this.#rest.subarray(LENGTH_BYTES, end));
      this.#rest = this.#rest.subarray(end);
    }
    return messages;
  }
}

/** A message as it is written to a stream. */
export function streamed(message: Buffer): Buffer {
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}
