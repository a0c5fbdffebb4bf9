// SPDX-License-Identifier: Apache-2.0

/** How to reach an etcd cluster, checked as far as it can be without asking it. */
import { CiliumError } from '../../errors/cilium-error.ts';

export interface EtcdConfig {
  /** URLs of members, all `http` or all `https`, such as `https://10.0.0.1:2379`. */
  readonly endpoints: readonly string[];
  /** PEM file of the authorities that sign the members' certificates. @default those of Node.js */
  readonly trustedCaFile?: string;
  /** PEM file of our certificate; together with `keyFile`. */
  readonly certFile?: string;
  readonly keyFile?: string;
  /** With `password`: whom etcd's own authentication knows us as. */
  readonly username?: string;
  readonly password?: string;
  /** In front of every key, for several stores in one cluster. @default none */
  readonly namespace?: string;
}

/** How long we wait for etcd. Tests have less time. */
export interface EtcdTimes {
  /** One request to one member. */
  readonly requestTimeoutMs: number;
  /** Time to find a member that answers, at the start. */
  readonly connectTimeoutMs: number;
  /** The same for a client that may start without. */
  readonly patienceMs: number;
  /** A session is looked after this often, and at least three times in its life. */
  readonly keepAliveMs: number;
  /** A silent connection is probed after this time, and given up when there is no answer within the next. etcd allows 5 s. */
  readonly pingMs: number;
  readonly pingTimeoutMs: number;
}

export const ETCD_TIMES: EtcdTimes = {
  requestTimeoutMs: 5_000,
  connectTimeoutMs: 120_000,
  patienceMs: 5_000,
  keepAliveMs: 15_000,
  pingMs: 10_000,
  pingTimeoutMs: 5_000,
};

/** Returns the endpoints in the form `http://host:port`; throws `InvalidArgument` for what cannot be meant. */
export function checkConfig(config: EtcdConfig): string[] {
  const { endpoints, certFile, keyFile, trustedCaFile, username, password } = config;
  if (endpoints.length === 0) throw invalid('endpoints', 'nothing', 'at least one URL such as http://127.0.0.1:2379');
  const urls = endpoints.map(checkEndpoint);
  const schemes = new Set(urls.map((url) => url.split(':', 1)[0]));
  if (schemes.size > 1) throw invalid('endpoints', endpoints.join(', '), 'all of them http or all of them https');
  if ((certFile === undefined) !== (keyFile === undefined)) {
    const [there, missing] = certFile === undefined ? ['key-file', 'cert-file'] : ['cert-file', 'key-file'];
    throw invalid(missing, 'nothing', `the file that belongs to ${there} ${certFile ?? keyFile!}`);
  }
  const file = trustedCaFile ?? certFile;
  if (file !== undefined && !schemes.has('https')) {
    throw invalid('endpoints', endpoints.join(', '), `https, because ${file} is given`);
  }
  if ((username === undefined) !== (password === undefined)) {
    throw invalid(
      username === undefined ? 'username' : 'password',
      'nothing',
      'both username and password, or neither',
    );
  }
  return urls;
}

function checkEndpoint(text: string): string {
  const expected = 'a URL such as http://127.0.0.1:2379';
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) throw invalid('endpoints', text, expected);
  const { protocol, hostname, port, pathname, username } = new URL(text);
  if (pathname !== '/' || username !== '') throw invalid('endpoints', text, `${expected}, without path or user`);
  return `${protocol}//${hostname}:${port === '' ? '2379' : port}`;
}

function invalid(field: string, found: string, expected: string): CiliumError {
  return new CiliumError('InvalidArgument', `etcd ${field}: found ${found}, expected ${expected}`, { field, found });
}
