// SPDX-License-Identifier: Apache-2.0

/**
 * The stream that GET /v1/monitor answers with: frames of a little-endian u32 (bytes of the payload), a u8 (kind), the payload.
 *
 * Records of the ring travel as the kernel wrote them, so that the agent does no work on them and `cilium monitor` decodes.
 */
import { CiliumError } from '../errors/cilium-error.ts';

export const FRAME_HEADER_BYTES = 5;

export const FRAME_KINDS = {
  /** A record of the event ring, payload included (abi.h). */
  record: 1,
  /** JSON: an event of the agent itself. */
  agent: 2,
  /** u64: how many records were lost. */
  lost: 3,
} as const;
export type FrameKind = (typeof FRAME_KINDS)[keyof typeof FRAME_KINDS];

/** No frame is longer; a reader that sees more is out of step. */
export const MAX_FRAME_BYTES = 1024 * 1024;

/** Writes one frame's header at `offset`. */
export function writeFrameHeader(target: Buffer, offset: number, payloadBytes: number, kind: FrameKind): void {
  target.writeUInt32LE(payloadBytes, offset);
  target[offset + 4] = kind;
}

/** Cuts a byte stream into frames. A payload is valid only during the call. */
export class FrameReader {
  readonly #onFrame: (kind: number, payload: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(onFrame: (kind: number, payload: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  /** Takes the next bytes and reports the frames that are whole now; throws `Internal` on a length that cannot be. */
  push(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (bytes.length - at >= FRAME_HEADER_BYTES) {
      const length = bytes.readUInt32LE(at);
      if (length > MAX_FRAME_BYTES) throw new CiliumError('Internal', `monitor frame of ${length} bytes`);
      const end = at + FRAME_HEADER_BYTES + length;
      if (end > bytes.length) break;
      this.#onFrame(bytes[at + 4]!, bytes.subarray(at + FRAME_HEADER_BYTES, end));
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }
}
