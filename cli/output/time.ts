// SPDX-License-Identifier: Apache-2.0

/** How long ago a moment (RFC 3339) was: `12s ago`, `1h2m3s ago`; `never` without one. */
export function agoText(timestamp: string | undefined, nowMs: number): string {
  if (timestamp === undefined) return 'never';
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(timestamp)) / 1000));
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return `${h > 0 ? `${h}h` : ''}${h + m > 0 ? `${m}m` : ''}${s}s ago`;
}
