// SPDX-License-Identifier: Apache-2.0

/** Queries as clients make them. */
import { encode, type RecordType } from 'dns-packet';

export interface QueryOptions {
  readonly type?: RecordType | 'ANY';
  readonly id?: number;
  /** EDNS with this size of replies. */
  readonly udpSize?: number;
  readonly ednsVersion?: number;
}

export function queryBytes(name: string, options: QueryOptions = {}): Buffer {
  const { type = 'A', id = 4711, udpSize, ednsVersion = 0 } = options;
  return encode({
    type: 'query',
    id,
    flags: 0x0100,
    questions: [{ type: type as RecordType, name }],
    additionals:
      udpSize === undefined
        ? []
        : [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: udpSize,
              extendedRcode: 0,
              ednsVersion,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ],
  });
}
