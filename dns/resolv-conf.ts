// SPDX-License-Identifier: Apache-2.0

/** The servers that this machine itself asks: `nameserver` lines of resolv.conf(5), read again when the file changes. */
import { readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { DNS_PORT, type Upstream } from './upstream.ts';

/** As many as the C library takes (MAXNS). */
const MAX_SERVERS = 3;
/** How long nobody looks whether the file has changed. */
const CHECK_INTERVAL_MS = 1_000;

export class ResolvConf {
  readonly #path: string;
  readonly #monotonic: () => number;
  readonly #isOurs: (address: string) => boolean;
  #servers: readonly Upstream[] = [];
  #checkedAt = -Infinity;
  #version = '';

  /** `isOurs`: addresses on which we answer ourselves, which would be asked in a circle. */
  constructor(path: string, isOurs: (address: string) => boolean, monotonic: () => number) {
    this.#path = path;
    this.#isOurs = isOurs;
    this.#monotonic = monotonic;
  }

  /** In the order of the file; none while it cannot be read. The file is small and local, so it is read on the spot. */
  servers(): readonly Upstream[] {
    const now = this.#monotonic();
    if (now - this.#checkedAt >= CHECK_INTERVAL_MS) {
      this.#checkedAt = now;
      this.#refresh();
    }
    return this.#servers;
  }

  #refresh(): void {
    try {
      const { ino, mtimeMs, size } = statSync(this.#path);
      const version = `${ino} ${mtimeMs} ${size}`;
      if (version === this.#version) return;
      const addresses = parseResolvConf(readFileSync(this.#path, 'utf8')).filter((address) => !this.#isOurs(address));
      this.#servers = addresses.slice(0, MAX_SERVERS).map((address) => ({ address, port: DNS_PORT }));
      this.#version = version;
    } catch {
      this.#servers = [];
      this.#version = '';
    }
  }
}

/** Addresses of the `nameserver` lines; what is no address is left out, as the C library does. */
export function parseResolvConf(text: string): string[] {
  const words = text.split('\n').map((line) => line.trim().split(/\s+/));
  return words.flatMap(([key, address]) => {
    return key === 'nameserver' && address !== undefined && isIP(address) !== 0 ? [address] : [];
  });
}
