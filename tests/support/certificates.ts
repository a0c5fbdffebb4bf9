// SPDX-License-Identifier: Apache-2.0

/** Certificates for tests, made by openssl. */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
}

/** An authority of its own. */
export async function makeAuthority(folder: string, name: string): Promise<Certificate> {
  const { certFile, keyFile } = files(folder, name);
  await openssl('req', '-x509', ...NEW_KEY, keyFile, '-out', certFile, '-subj', `/CN=${name}`, '-days', '2');
  return { certFile, keyFile };
}

/** A certificate for 127.0.0.1, as server and as client. */
export async function makeCertificate(folder: string, name: string, authority: Certificate): Promise<Certificate> {
  const { certFile, keyFile } = files(folder, name);
  const request = join(folder, `${name}.csr`);
  const extensions = join(folder, `${name}.ext`);
  await writeFile(extensions, 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n');
  await openssl('req', ...NEW_KEY, keyFile, '-out', request, '-subj', `/CN=${name}`);
  const signer = ['-CA', authority.certFile, '-CAkey', authority.keyFile, '-CAcreateserial'];
  await openssl('x509', '-req', '-in', request, ...signer, '-days', '1', '-extfile', extensions, '-out', certFile);
  return { certFile, keyFile };
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout'];

function files(folder: string, name: string): Certificate {
  return { certFile: join(folder, `${name}.crt`), keyFile: join(folder, `${name}.key`) };
}

async function openssl(...args: readonly string[]): Promise<void> {
  await run('openssl', args);
}
