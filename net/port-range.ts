// SPDX-License-Identifier: Apache-2.0

/** Port ranges as the aligned blocks that a longest-prefix map can hold. */

/** The ports whose `bits` high bits equal those of `port`; 16 bits: one port, 0 bits: all. */
export interface PortBlock {
  readonly port: number;
  readonly bits: number;
}

const PORT_BITS = 16;

/** The fewest blocks, in ascending order, that cover `first` to `last` (both inside, 0..65535, first <= last). */
export function portRangeToBlocks(first: number, last: number): PortBlock[] {
  const blocks: PortBlock[] = [];
  for (let port = first; port <= last;) {
    // The largest aligned block that starts here and does not reach beyond the end.
    let size = port === 0 ? 1 << PORT_BITS : port & -port;
    while (port + size - 1 > last) size >>= 1;
    blocks.push({ port, bits: PORT_BITS - Math.log2(size) });
    port += size;
  }
  return blocks;
}
