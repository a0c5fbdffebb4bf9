// SPDX-License-Identifier: Apache-2.0

/**
 * Rules and identities put together, down to the kernel's policy maps: who tells whom, in the order that keeps traffic
 * whole. An identity is in the policy maps before anything names it.
 */
import { resolve } from 'node:path';
import type { Datapath } from '../../datapath/datapath.ts';
import { PolicyRealizer } from '../../endpoint/policy-realizer.ts';
import { LabelFilter, VOLATILE_DOCKER_PATTERNS } from '../../identity/label-filter.ts';
import { numericIdentity } from '../../identity/numeric-identity.ts';
import type { Ipcache } from '../../ipcache/ipcache.ts';
import { PORT_LABEL_PATTERN } from '../../policy/named-ports.ts';
import { PolicyRepository } from '../../policy/repository.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/logger.ts';
import { re2 } from '../../runtime/re2.ts';
import { CidrIdentities, Identities, type GlobalAllocator, type LocalAllocator } from '../identities.ts';
import { MemoryReturn } from '../memory-return.ts';
import { PortNames } from '../named-ports.ts';
import type { AgentOptions } from '../options.ts';
import { PolicyFolder } from './policy-folder.ts';
import { PolicyIdentities } from './policy-identities.ts';
import { importLanguage, NO_PROXY_PORT, RESTORED_LANGUAGE } from './policy-language.ts';
import { PolicyService } from './policy-service.ts';

export interface PolicyPartsDeps {
  readonly options: AgentOptions;
  readonly allocator: GlobalAllocator;
  readonly localIdentities: LocalAllocator;
  readonly ipcache: Ipcache;
  readonly docker: { networkName(id: string): Promise<string> };
  /** To be had once it has started. */
  readonly datapath: () => Datapath;
  /** The watched folder has given other rules. */
  readonly onFolderChange: (files: readonly string[], revision: number) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface PolicyParts {
  readonly repository: PolicyRepository;
  readonly identities: Identities;
  readonly policyIdentities: PolicyIdentities;
  readonly realizer: PolicyRealizer;
  /** Brings what the repository wants into force: policy maps first, then the addresses of new prefixes. */
  readonly enforce: () => void;
  readonly policy: PolicyService;
  /** Absent when no directory is watched. */
  readonly policyFolder: PolicyFolder | undefined;
  readonly memory: MemoryReturn;
}

export function buildPolicy(deps: PolicyPartsDeps): PolicyParts {
  const { options, allocator, localIdentities, ipcache, docker, datapath, onFolderChange, clock, log } = deps;
  const cidrIdentities = new CidrIdentities(localIdentities, ipcache.as('generated'));
  const repository = new PolicyRepository({
    enforcement: options.enablePolicy,
    allowLocalhost: options.allowLocalhost,
    cidrIdentities,
    proxyPort: () => NO_PROXY_PORT,
    dropsRedirects: true,
  });
  const policyIdentities = new PolicyIdentities({
    set: (id, known) => datapath().identities.set(id, known),
    list: () => datapath().identities.list(),
  });
  const identities = new Identities({
    allocator,
    filter: new LabelFilter({
      builtIn: [...VOLATILE_DOCKER_PATTERNS, PORT_LABEL_PATTERN],
      patterns: options.labels,
      regex: re2,
    }),
    consumer: {
      addIdentity: (id, labels) => {
        policyIdentities.learned(id);
        repository.addIdentity(id, labels);
      },
      removeIdentity: (id) => {
        policyIdentities.forgotten(id);
        repository.removeIdentity(id);
      },
    },
    portNames: new PortNames({
      consumer: { setNamedPorts: (id, ports) => repository.setNamedPorts(id, ports) },
      log: log,
    }),
    syncPolicy: () => enforce(),
    networkName: options.networkLabel ? (id) => docker.networkName(id) : undefined,
  });
  const realizer = new PolicyRealizer(
    {
      get revision() {
        return repository.revision;
      },
      addSubject: (id) => repository.addSubject(numericIdentity(id)),
      removeSubject: (id) => repository.removeSubject(numericIdentity(id)),
      policyOf: (id) => repository.policyOf(numericIdentity(id)),
      entries: (id) => repository.entries(numericIdentity(id)),
      takeUpdates: () => repository.takePolicyUpdates(),
    },
    {
      get maxEntries() {
        return datapath().policy.maxEntries;
      },
      acquire: () => datapath().policy.tryAcquire(),
      apply: (slot, changes) => datapath().policy.apply(slot, changes),
      entries: (slot) => datapath().policy.entries(slot),
      release: (slot) => datapath().policy.release(slot),
    },
    log,
  );
  const memory = new MemoryReturn({ clock, log: log });
  /** What the repository now wants comes into force: policy maps first, then the addresses of new prefixes. */
  const enforce = (): void => {
    realizer.sync();
    if (!realizer.isWaiting) {
      cidrIdentities.publish();
      policyIdentities.enforced();
    }
    memory.touch();
  };
  const parse = { regex: re2, language: importLanguage(options) };
  const policy = new PolicyService({
    repository,
    enforce,
    stateDir: options.stateDir,
    parse,
    remembered: RESTORED_LANGUAGE,
    watching: options.staticCnpPath !== '',
    log: log,
  });
  const policyFolder =
    options.staticCnpPath === ''
      ? undefined
      : new PolicyFolder({
          path: resolve(options.staticCnpPath),
          stateDir: options.stateDir,
          parse,
          policy,
          onChange: (files) => onFolderChange(files, repository.revision),
          log: log,
          clock,
        });
  return { repository, identities, policyIdentities, realizer, enforce, policy, policyFolder, memory };
}
