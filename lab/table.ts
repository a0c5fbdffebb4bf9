// SPDX-License-Identifier: Apache-2.0

/** Cells under their titles, which are the first row. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_title, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('   ')
        .trimEnd(),
    )
    .join('\n');
}
