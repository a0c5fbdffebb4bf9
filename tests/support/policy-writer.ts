// SPDX-License-Identifier: Apache-2.0

/**
 * `node policy-writer.ts FOLDER FROM`: imports rules FROM, FROM + 1, … as fast as the policy service takes them, each with
 * a group that replaces the last one, and prints the number of each that was answered. To be killed.
 */
import { writeSync } from 'node:fs';
import { PolicyService } from '../../agent/policy/policy-service.ts';
import { numericIdentity } from '../../identity/numeric-identity.ts';
import { PolicyRepository } from '../../policy/repository.ts';
import { silentLogger } from '../../runtime/logger.ts';

const COMPACT_EVERY = 50;

export async function openPolicy(stateDir: string): Promise<PolicyService> {
  const policy = new PolicyService({
    repository: new PolicyRepository({
      enforcement: 'default',
      allowLocalhost: 'auto',
      cidrIdentities: { acquire: () => numericIdentity(0x01000001), release: () => undefined },
    }),
    enforce: () => undefined,
    stateDir,
    parse: {},
    watching: false,
    log: silentLogger,
    minCompactionBytes: 8_192,
  });
  await policy.restore();
  return policy;
}

if (import.meta.main) {
  const [folder, from] = process.argv.slice(2);
  const policy = await openPolicy(folder!);
  for (let number = Number(from); ; number++) {
    const rule = { endpointSelector: {}, ingress: [{}], description: String(number) };
    const group = {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumCIDRGroup',
      metadata: { name: 'last', labels: { number: String(number) } },
      spec: { externalCIDRs: [] },
    };
    await policy.import([{ items: [{ value: rule }, { value: group }] }], {});
    writeSync(1, `${number}\n`);
    if (number % COMPACT_EVERY === 0) void policy.compact();
  }
}
