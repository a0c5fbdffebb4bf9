// SPDX-License-Identifier: Apache-2.0

/** Certificates and keys from files; what is wrong with one is said with its name, before etcd is asked. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { EtcdConfig } from './etcd-config.ts';

export interface TlsFiles {
  readonly rootCertificate?: Buffer;
  readonly certChain?: Buffer;
  readonly privateKey?: Buffer;
}

/** Throws `Precondition` with field and file. */
export function readTlsFiles({ trustedCaFile, certFile, keyFile }: EtcdConfig): TlsFiles {
  const root = trustedCaFile === undefined ? undefined : read('trusted-ca-file', trustedCaFile);
  if (root !== undefined)
    parse('trusted-ca-file', trustedCaFile!, 'a PEM certificate', () => new X509Certificate(root));
  if (certFile === undefined || keyFile === undefined) return { ...(root && { rootCertificate: root }) };
  const chain = read('cert-file', certFile);
  const key = read('key-file', keyFile);
  const own = parse('cert-file', certFile, 'a PEM certificate', () => new X509Certificate(chain));
  const privateKey = parse('key-file', keyFile, 'a PEM private key without a password', () => createPrivateKey(key));
  if (!own.checkPrivateKey(privateKey)) throw broken('key-file', keyFile, `is not the key of ${certFile}`);
  if (Date.parse(own.validTo) < Date.now()) throw broken('cert-file', certFile, `has expired on ${own.validTo}`);
  return { ...(root && { rootCertificate: root }), certChain: chain, privateKey: key };
}

function read(field: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw broken(field, path, 'cannot be read', error);
  }
}

function parse<T>(field: string, path: string, expected: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw broken(field, path, `is not ${expected}`, error);
  }
}

function broken(field: string, path: string, what: string, cause?: unknown): CiliumError {
  return new CiliumError('Precondition', `etcd ${field}: ${path} ${what}`, { field, path }, cause);
}
