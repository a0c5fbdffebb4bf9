// SPDX-License-Identifier: Apache-2.0

/**
 * What a change of the rules would do to the endpoints of this node and to the flows seen. A flow between two endpoints
 * passes both policies, so it is asked of both and the worse verdict counts.
 */
import type { Endpoint } from '../../api/models.ts';
import type {
  FlowDifferenceEnd,
  FlowDifferenceModel,
  Identified,
  PolicyDifferenceModel,
  SimulatedPeerModel,
  SimulatedVerdict,
} from '../../api/simulation-models.ts';
import { numericIdentity, type NumericIdentity } from '../../identity/numeric-identity.ts';
import { IpAddress } from '../../net/ip.ts';
import type { Direction } from '../../policy/rule.ts';
import type { PolicyRepository } from '../../policy/repository.ts';
import type { PolicyDifference, Simulation } from '../../policy/simulation.ts';
import type { SimulatedFlow, SimulatedPeer } from '../../policy/why/subject-change.ts';
import type { FlowEndpoint, FlowPair } from './flow-pairs.ts';
import { packetText, packetsText } from './why-texts.ts';

/** One of the policies that a flow passes. */
export interface FlowSide extends SimulatedFlow {
  readonly pair: FlowPair;
}

export interface SimulationContext {
  readonly repository: PolicyRepository;
  readonly endpoints: readonly Endpoint[];
  readonly identityOfAddress: (address: IpAddress) => number | undefined;
  /** Whether policy of this node acts on an identity. */
  readonly hasPolicy: (id: NumericIdentity) => boolean;
  readonly dropsRedirects: boolean;
}

const WORST_FIRST: readonly SimulatedVerdict[] = ['denied', 'redirect', 'allowed'];

/** The policies of this node that a flow passes: its sender's and its receiver's, where they stand here. */
export function sidesOf(pair: FlowPair, { hasPolicy }: Pick<SimulationContext, 'hasPolicy'>): FlowSide[] {
  const side = (subject: FlowEndpoint, peer: FlowEndpoint, direction: Direction): FlowSide[] => {
    const id = numericIdentity(subject.identity);
    if (subject.address !== undefined || !hasPolicy(id)) return [];
    const peerAddress = peer.address === undefined ? undefined : IpAddress.parse(peer.address);
    const { protocol, port } = pair;
    return [{ subject: id, direction, peer: numericIdentity(peer.identity), peerAddress, protocol, port, pair }];
  };
  return [...side(pair.from, pair.to, 'egress'), ...side(pair.to, pair.from, 'ingress')];
}

export function policyDifferences(
  simulation: Simulation<FlowSide>,
  context: SimulationContext,
): PolicyDifferenceModel[] {
  return simulation.differences.map((difference) => differenceModel(difference, context));
}

/** The most frequent first. */
export function flowDifferences(simulation: Simulation<FlowSide>, context: SimulationContext): FlowDifferenceModel[] {
  const byPair = Map.groupBy(simulation.flows, ({ flow }) => flow.pair);
  const changed = Array.from(byPair, ([pair, differences]) => {
    const unchanged = sidesOf(pair, context)
      .filter(({ direction }) => differences.every(({ flow }) => flow.direction !== direction))
      .map((side) => presentVerdict(side, context));
    const before = worst([...unchanged, ...differences.map((one) => inEffect(one.before, context))]);
    const after = worst([...unchanged, ...differences.map((one) => inEffect(one.after, context))]);
    return { pair, before, after };
  });
  return changed
    .filter(({ before, after }) => before !== after)
    .sort((a, b) => b.pair.count - a.pair.count)
    .map(({ pair, before, after }) => ({
      from: endModel(pair.from, context),
      to: endModel(pair.to, context),
      packet: packetText(pair),
      before,
      after,
      count: pair.count,
      'first-seen': new Date(pair.firstSeen).toISOString(),
      'last-seen': new Date(pair.lastSeen).toISOString(),
    }));
}

/** Without a proxy a redirect is a drop. */
function inEffect(verdict: SimulatedVerdict, { dropsRedirects }: SimulationContext): SimulatedVerdict {
  return verdict === 'redirect' && dropsRedirects ? 'denied' : verdict;
}

function worst(verdicts: readonly SimulatedVerdict[]): SimulatedVerdict {
  return WORST_FIRST.find((verdict) => verdicts.includes(verdict)) ?? 'allowed';
}

function presentVerdict(
  { subject, direction, peer, peerAddress, protocol, port }: FlowSide,
  context: SimulationContext,
): SimulatedVerdict {
  const { repository, identityOfAddress } = context;
  const identity = (peerAddress && identityOfAddress(peerAddress)) ?? peer;
  const packet = { identity, egress: direction === 'egress', protocol, port };
  const { reasons, allowedBySetting } = repository.explain(subject, packet);
  if (reasons.some(({ deny }) => deny)) return 'denied';
  if (reasons.some(({ redirect }) => redirect !== undefined)) return inEffect('redirect', context);
  return allowedBySetting || reasons.length > 0 ? 'allowed' : 'denied';
}

function differenceModel(
  { subjects, direction, setting, groups }: PolicyDifference,
  context: SimulationContext,
): PolicyDifferenceModel {
  return {
    subjects: subjects.map((id) => identified(id, context)),
    direction,
    open: { before: setting.before !== undefined, after: setting.after !== undefined },
    changes: groups.flatMap(({ peers, changes }) => {
      const models = peers.map((peer) => peerModel(peer, context));
      return changes
        .map((change) => ({
          peers: models,
          packets: packetsText(change),
          before: inEffect(change.before, context),
          after: inEffect(change.after, context),
        }))
        .filter(({ before, after }) => before !== after);
    }),
  };
}

function peerModel(peer: SimulatedPeer, context: SimulationContext): SimulatedPeerModel {
  switch (peer.kind) {
    case 'identity':
      return { kind: 'identity', ...identified(peer.identity, context) };
    case 'prefix':
      return { kind: 'prefix', prefix: peer.prefix.toString(), labels: peer.labels.toTexts(), containers: [] };
    case 'others':
      return { kind: 'others', labels: [], containers: [] };
  }
}

function endModel({ identity, address }: FlowEndpoint, context: SimulationContext): FlowDifferenceEnd {
  const present = address === undefined ? undefined : context.identityOfAddress(IpAddress.parse(address));
  return {
    ...identified(numericIdentity(present ?? identity), context),
    ...(address !== undefined && { address }),
  };
}

function identified(id: NumericIdentity, { repository, endpoints }: SimulationContext): Identified {
  const containers = endpoints
    .filter(({ status }) => status.identity?.id === id)
    .map(({ id: endpoint, status }) => status['external-identifiers']['container-name'] ?? `endpoint ${endpoint}`);
  return {
    identity: id,
    labels: repository.labelsOf(id)?.toTexts() ?? [],
    containers: [...new Set(containers)].sort(),
  };
}
