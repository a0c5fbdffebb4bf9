// SPDX-License-Identifier: Apache-2.0

/** The clock that all processes of the machine share. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
