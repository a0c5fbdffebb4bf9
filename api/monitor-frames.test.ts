// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FRAME_HEADER_BYTES, FRAME_KINDS, FrameReader, MAX_FRAME_BYTES, writeFrameHeader } from './monitor-frames.ts';

function frame(payload: string): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  writeFrameHeader(bytes, 0, payload.length, FRAME_KINDS.agent);
  bytes.write(payload, FRAME_HEADER_BYTES);
  return bytes;
}

test('frames are found however the stream is cut', () => {
  const payloads = ['a', '', 'a longer one', 'z'];
  const stream = Buffer.concat(payloads.map(frame));
  for (let piece = 1; piece <= stream.length; piece++) {
    const seen: string[] = [];
    const reader = new FrameReader((kind, payload) => {
      assert.equal(kind, FRAME_KINDS.agent);
      seen.push(payload.toString());
    });
    for (let at = 0; at < stream.length; at += piece) reader.push(stream.subarray(at, at + piece));
    assert.deepEqual(seen, payloads, `in pieces of ${piece}`);
  }
});

test('a length that cannot be ends the reading with an error', () => {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  writeFrameHeader(header, 0, MAX_FRAME_BYTES + 1, FRAME_KINDS.record);
  const reader = new FrameReader(() => assert.fail('there is no frame'));
  assert.throws(() => reader.push(header), { code: 'Internal', message: /monitor frame of 1048577 bytes/ });
});
