// SPDX-License-Identifier: Apache-2.0

/** The paths of the REST API: each reads its request, checks it and asks the agent's services. */
import { Router, type Request, type RequestHandler } from 'express';
import { daemonConfigurationSpec, labelConfigurationSpec, labels as labelList } from '../../api/models.ts';
import { policyDelete, policyDeleteQuery, policyImport, policyImportQuery } from '../../api/models.ts';
import type { PolicyImport } from '../../api/models.ts';
import type { BpfMapList, Endpoint, Identity, LabelConfiguration } from '../../api/models.ts';
import type { Policy, PolicyDeleted, PolicyPlan } from '../../api/models.ts';
import type { IdentityEndpoints } from '../../api/cluster-models.ts';
import { BASE_PATH, PATHS } from '../../api/paths.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { PolicySource } from '../../policy/resources/policy-item.ts';
import { answer, bodyOf, carriesAll, sourcesOf } from './answer.ts';
import { addClusterRoutes } from './cluster-routes.ts';
import { normalizeChange } from './config-change.ts';
import { findEndpoint } from './endpoint-reference.ts';
import { parseRequest } from './errors.ts';
import { MonitorStream } from './monitor-stream.ts';
import { addQuestionRoutes } from './question-routes.ts';
import type { Api } from './server.ts';
import type { AgentServices, PolicyView } from './services.ts';

/** The API of the agent. */
export function agentApi(services: AgentServices): Api {
  return { basePath: BASE_PATH, router: apiRouter(services) };
}

/** All paths below the base path. */
export function apiRouter(services: AgentServices): Router {
  const router = Router();
  router.get(
    PATHS.status,
    answer(() => services.status()),
  );
  router.get(
    PATHS.version,
    answer(() => services.version()),
  );
  router.get(
    PATHS.config,
    answer(() => services.config()),
  );
  router.patch(
    PATHS.config,
    answer((request) => {
      const { options } = services.config().status.realized;
      return services.changeConfig(normalizeChange(bodyOf(request, daemonConfigurationSpec), options));
    }),
  );
  addEndpointRoutes(router, services);
  addIdentityRoutes(router, services);
  addClusterRoutes(router, services);
  addPolicyRoutes(router, services);
  addQuestionRoutes(router, services.questions);
  router.get(
    PATHS.maps,
    answer((): BpfMapList => ({ maps: [...services.maps()] })),
  );
  router.get(
    PATHS.map,
    answer((request) => required(services.map(param(request, 'name')), `map ${param(request, 'name')}`)),
  );
  router.get(PATHS.monitor, monitor(services));
  return router;
}

function addEndpointRoutes(router: Router, services: AgentServices): void {
  const endpointOf = (request: Request) => findEndpoint(services.endpoints(), param(request, 'id'));

  router.get(
    PATHS.endpoints,
    answer((request) => {
      const wanted = optionalLabels(request);
      return services.endpoints().filter((endpoint) => carriesAll(endpoint.status.identity?.labels ?? [], wanted));
    }),
  );
  router.get(PATHS.endpoint, answer(endpointOf));
  router.get(
    PATHS.endpointLabels,
    answer((request): LabelConfiguration => {
      const { labels } = endpointOf(request).status;
      return { spec: labels.realized, status: labels };
    }),
  );
  router.patch(
    PATHS.endpointLabels,
    answer((request) => {
      return services.setEndpointLabels(endpointOf(request).id, bodyOf(request, labelConfigurationSpec));
    }),
  );
}

function addIdentityRoutes(router: Router, services: AgentServices): void {
  router.get(
    PATHS.identities,
    answer((request) => {
      const wanted = optionalLabels(request);
      if (wanted.length === 0) return services.identities();
      const exact = services
        .identities()
        .filter(({ labels }) => labels.length === wanted.length && carriesAll(labels, wanted));
      return required(exact.length > 0 ? exact : undefined, `identity with exactly the labels ${wanted.join(' ')}`);
    }),
  );
  router.get(
    PATHS.identityEndpoints,
    answer(() => identitiesInUse(services.endpoints())),
  );
  router.get(
    PATHS.identity,
    answer((request): Identity => {
      const id = param(request, 'id');
      if (!/^(0|[1-9][0-9]{0,9})$/.test(id))
        throw new CiliumError('InvalidArgument', `"${id}" is not an identity (a number)`);
      return required(
        services.identities().find((identity) => identity.id === Number(id)),
        `identity ${id}`,
      );
    }),
  );
}

/** By number. */
function identitiesInUse(endpoints: readonly Endpoint[]): IdentityEndpoints[] {
  const users = new Map<number, IdentityEndpoints>();
  for (const { identity } of endpoints.map(({ status }) => status)) {
    if (identity === undefined) continue;
    users.set(identity.id, { identity, refCount: (users.get(identity.id)?.refCount ?? 0) + 1 });
  }
  return [...users.values()].sort((a, b) => a.identity.id - b.identity.id);
}

function addPolicyRoutes(router: Router, services: AgentServices): void {
  router.get(
    PATHS.policy,
    answer((request): Policy => {
      const wanted = optionalLabels(request);
      const view = services.policy(wanted);
      if (wanted.length > 0 && view.rules.length === 0) throw noRuleWith(wanted);
      return asPolicy(view);
    }),
  );
  router.put(
    PATHS.policy,
    answer(async (request): Promise<Policy | PolicyPlan> => {
      const sources = asSources(bodyOf<PolicyImport>(request, policyImport));
      const query = parseRequest(policyImportQuery, request.query, 'query');
      const replaceWithLabels = query['replace-with-labels']?.split(',').filter((label) => label !== '') ?? [];
      const options = { replace: query.replace ?? false, replaceWithLabels };
      if (query['dry-run'] === true) return services.planPolicy(sources, options);
      const revision = await services.importPolicy(sources, options);
      if (query.brief === true) return { revision, policy: '' };
      return asPolicy({ revision, rules: sources.flatMap(({ items }) => items.map(({ value }) => value)) });
    }),
  );
  router.delete(
    PATHS.policy,
    answer(async (request): Promise<PolicyDeleted> => {
      const wanted = parseRequest(policyDelete, request.body ?? [], 'body');
      const { brief } = parseRequest(policyDeleteQuery, request.query, 'query');
      const { revision, deleted, watchedFiles } = await services.deletePolicy(wanted);
      if (wanted.length > 0 && deleted === 0) throw watchedFiles.length > 0 ? onlyIn(watchedFiles) : noRuleWith(wanted);
      return {
        ...(brief === true ? { revision, policy: '' } : asPolicy(services.policy([]))),
        deleted,
        ...(watchedFiles.length > 0 && { 'watched-files': [...watchedFiles] }),
      };
    }),
  );
}

/** Streams events until the client hangs up. */
function monitor(services: AgentServices): RequestHandler {
  return (_request, response) => {
    response.type('application/octet-stream').flushHeaders();
    response.on('close', services.subscribeMonitor(new MonitorStream(response)));
  };
}

function param(request: Request, name: string): string {
  const value = request.params[name];
  return typeof value === 'string' ? value : '';
}

function optionalLabels(request: Request): readonly string[] {
  return parseRequest(labelList, request.body ?? [], 'body');
}

function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new CiliumError('NotFound', `${what} not found`);
  return value;
}

function noRuleWith(labels: readonly string[]): CiliumError {
  return new CiliumError('NotFound', `no rule carries all of the labels ${labels.join(' ')}`);
}

function onlyIn(files: readonly string[]): CiliumError {
  const what = `the rules with these labels come from ${files.join(', ')}, which the agent watches`;
  return new CiliumError('InUse', `${what}; change or remove the file`, { files });
}

function asPolicy(view: PolicyView): Policy {
  return { revision: view.revision, policy: JSON.stringify(view.rules, undefined, 2) };
}

/** What an import brings, whichever form it was sent in. */
function asSources(body: PolicyImport): readonly PolicySource[] {
  if (typeof body === 'object' && 'sources' in body) return sourcesOf(body);
  return [{ items: asItems(body).map((value) => ({ value })) }];
}

/** Sent as an array or, as Cilium's own client does, as a text that holds the array. */
function asItems(body: readonly unknown[] | string): readonly unknown[] {
  if (typeof body !== 'string') return body;
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (cause) {
    throw new CiliumError('InvalidArgument', 'the text in the body is not JSON', {}, cause);
  }
  if (!Array.isArray(value)) throw new CiliumError('InvalidArgument', 'the text in the body is not an array of rules');
  return value as readonly unknown[];
}
