// SPDX-License-Identifier: Apache-2.0

/** The file that `etcd.config` names: YAML or JSON, with the keys that users of Cilium and etcdctl know. */
import { parse } from 'yaml';
import { z } from 'zod';
import { CiliumError } from '../../errors/cilium-error.ts';
import { describeIssues } from '../../runtime/state-file.ts';
import type { EtcdConfig } from './etcd-config.ts';

const path = z.string().regex(/^\//, 'expected an absolute path');
const FILE = z.strictObject({
  endpoints: z.array(z.string()),
  'trusted-ca-file': path.optional(),
  /** What older files call it. */
  'ca-file': path.optional(),
  'cert-file': path.optional(),
  'key-file': path.optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  namespace: z.string().optional(),
});

/** Throws `InvalidArgument` with the file and, where there is one, the field. */
export function parseConfigFile(file: string, text: string): EtcdConfig {
  let content: unknown;
  try {
    content = parse(text);
  } catch (cause) {
    throw new CiliumError('InvalidArgument', `etcd.config ${file} is not YAML`, { file }, cause);
  }
  const result = FILE.safeParse(content);
  if (!result.success) {
    throw new CiliumError('InvalidArgument', `etcd.config ${file}: ${describeIssues(result.error.issues)}`, { file });
  }
  const { endpoints, username, password, namespace, ...files } = result.data;
  const trustedCaFile = files['trusted-ca-file'] ?? files['ca-file'];
  const { 'cert-file': certFile, 'key-file': keyFile } = files;
  return {
    endpoints,
    ...(trustedCaFile !== undefined && { trustedCaFile }),
    ...(certFile !== undefined && { certFile }),
    ...(keyFile !== undefined && { keyFile }),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(namespace !== undefined && { namespace }),
  };
}
