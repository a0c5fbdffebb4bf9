// SPDX-License-Identifier: Apache-2.0

/** Who is meant by a word on a command line: an endpoint, a container, an address, an identity, an entity, labels. */
import type { Endpoint } from '../../api/models.ts';
import type { FlowEndModel, NodePlace } from '../../api/explain-models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import { LabelSet } from '../../identity/label-set.ts';
import { LABEL_SOURCE, parseLabel, type Label } from '../../identity/label.ts';
import { numericIdentity, RESERVED_IDENTITIES, type ReservedName } from '../../identity/numeric-identity.ts';
import { IpAddress, type IpFamily } from '../../net/ip.ts';
import type { PolicyRepository } from '../../policy/repository.ts';
import type { FlowEnd } from '../../policy/why/flow-end.ts';
import { isManaged } from '../../policy/why/subject.ts';
import { ENDPOINT_PREFIXES, findEndpoint } from '../rest/endpoint-reference.ts';
import type { Places } from './places.ts';

export interface FlowEndsDeps {
  readonly endpoints: () => readonly Endpoint[];
  /** It knows all identities. */
  readonly repository: Pick<PolicyRepository, 'labelsOf' | 'view'>;
  /** Identity of an address, by its longest prefix. */
  readonly identityOfAddress: (address: IpAddress) => number | undefined;
  readonly places: Pick<Places, 'nodeOf' | 'nameAt' | 'addressOf'>;
}

export interface NamedEnd extends FlowEnd {
  readonly model: FlowEndModel;
  /** The other node on which it is an endpoint. */
  readonly decidedBy?: NodePlace;
}

/** A container's id is known by so many of its first characters. */
const MIN_ID_CHARS = 6;

export class FlowEnds {
  readonly #deps: FlowEndsDeps;

  constructor(deps: FlowEndsDeps) {
    this.#deps = deps;
  }

  /**
   * `family` decides between the two worlds where the name leaves it open. Throws `NotFound`, or `InvalidArgument` for a
   * name that fits several.
   */
  find(name: string, family: IpFamily = 4): NamedEnd {
    const prefix = /^([a-z0-9-]+):/.exec(name)?.[1] ?? '';
    if (prefix === 'identity') return this.#identity(name, name.slice(prefix.length + 1));
    if (prefix === 'ipv4' || prefix === 'ipv6') {
      return this.#ofAddress(name, IpAddress.parse(name.slice(prefix.length + 1)));
    }
    if (ENDPOINT_PREFIXES.includes(prefix) || /^[0-9]+$/.test(name)) {
      return this.#ofEndpoint(name, findEndpoint(this.#deps.endpoints(), name));
    }
    if (IpAddress.isValid(name)) return this.#ofAddress(name, IpAddress.parse(name));
    const container = this.#container(name);
    if (container !== undefined) return this.#ofEndpoint(name, container);
    const reserved = reservedName(name, family);
    if (reserved !== undefined) return this.#identity(name, String(RESERVED_IDENTITIES[reserved]));
    const elsewhere = this.#deps.places.addressOf(name, family);
    if (elsewhere !== undefined) return this.#ofAddress(name, elsewhere);
    if (/[:=]/.test(name)) return this.#ofLabels(name);
    throw new CiliumError(
      'NotFound',
      `"${name}" is nobody here: expected an endpoint (ID, container's name or ID), an IP address, identity:NUMBER, ` +
        'an entity such as reserved:world, or labels such as container:id=app1; `cilium ip list` shows who is known, ' +
        'on other nodes, too',
    );
  }

  /** Of an identity that has exactly these labels. */
  identityWith(labels: LabelSet): number | undefined {
    for (const [id, known] of this.#deps.repository.view().peers.identities()) {
      if (known.equals(labels)) return id;
    }
    return undefined;
  }

  #ofEndpoint(name: string, endpoint: Endpoint, address?: IpAddress): NamedEnd {
    const { identity } = endpoint.status;
    if (identity === undefined) throw new CiliumError('NotFound', `endpoint ${endpoint.id} has no identity yet`);
    return namedEnd(name, identity.id, LabelSet.fromTexts(identity.labels), { endpoint, address });
  }

  #ofAddress(name: string, address: IpAddress): NamedEnd {
    const text = address.toString();
    const endpoint = this.#deps
      .endpoints()
      .find(({ status }) => status.networking.addressing.some(({ ipv4, ipv6 }) => ipv4 === text || ipv6 === text));
    if (endpoint !== undefined) return this.#ofEndpoint(name, endpoint, address);
    const { places, identityOfAddress } = this.#deps;
    const node = places.nodeOf(address);
    const id = identityOfAddress(address) ?? RESERVED_IDENTITIES.world;
    if (id === RESERVED_IDENTITIES.unknown) {
      return namedEnd(name, id, LabelSet.EMPTY, { address, place: node?.place, managed: false });
    }
    const place = node?.isLocal === true ? undefined : node?.place;
    const container = place && places.nameAt(address);
    return namedEnd(name, id, this.#labelsOf(id), { address, place, container });
  }

  /** All endpoints of a container have one identity. */
  #container(name: string): Endpoint | undefined {
    const endpoints = this.#deps.endpoints();
    const named = endpoints.find(({ status }) => status['external-identifiers']['container-name'] === name);
    if (named !== undefined || name.length < MIN_ID_CHARS) return named;
    const byId = endpoints.filter(({ status }) => status['external-identifiers']['container-id']?.startsWith(name));
    const ids = new Set(byId.map(({ status }) => status['external-identifiers']['container-id']));
    if (ids.size > 1) throw new CiliumError('InvalidArgument', `"${name}" fits the IDs of ${ids.size} containers`);
    return byId[0];
  }

  #identity(name: string, number: string): NamedEnd {
    if (!/^(0|[1-9][0-9]{0,9})$/.test(number)) {
      throw new CiliumError('InvalidArgument', `"${name}": expected a number after "identity:"`);
    }
    return this.#known(name, Number(number), this.#labelsOf(Number(number)));
  }

  /** Of whoever has exactly these labels; nobody needs to. */
  #ofLabels(name: string): NamedEnd {
    const labels = LabelSet.of(name.split(',').map(containerLabel));
    return this.#known(name, this.identityWith(labels) ?? RESERVED_IDENTITIES.unknown, labels);
  }

  #known(name: string, id: number, labels: LabelSet): NamedEnd {
    const endpoint = this.#deps.endpoints().find(({ status }) => status.identity?.id === id);
    return namedEnd(name, id, labels, { endpoint });
  }

  #labelsOf(id: number): LabelSet {
    const labels = this.#deps.repository.labelsOf(numericIdentity(id));
    if (labels === undefined) throw new CiliumError('NotFound', `identity ${id} not found`);
    return labels;
  }
}

/** Without a source a label is a container's. */
export function containerLabel(text: string): Label {
  const label = parseLabel(text);
  return label.source === LABEL_SOURCE.unspec ? { ...label, source: LABEL_SOURCE.container } : label;
}

function reservedName(name: string, family: IpFamily): ReservedName | undefined {
  const word = name.replace(/^reserved[:.]/, '');
  if (word === 'world') return family === 4 ? 'world-ipv4' : 'world-ipv6';
  return Object.hasOwn(RESERVED_IDENTITIES, word) && word !== 'unknown' ? (word as ReservedName) : undefined;
}

interface EndFacts {
  readonly endpoint?: Endpoint | undefined;
  readonly address?: IpAddress | undefined;
  /** Of an address that is no endpoint's of this node. */
  readonly place?: NodePlace | undefined;
  /** On another node. */
  readonly container?: string | undefined;
  readonly managed?: boolean;
}

function namedEnd(name: string, id: number, labels: LabelSet, facts: EndFacts): NamedEnd {
  const { endpoint, address, place, managed = isManaged(labels) } = facts;
  const container = endpoint?.status['external-identifiers']['container-name'] ?? facts.container;
  return {
    identity: numericIdentity(id),
    labels,
    managed,
    ...(address !== undefined && { address }),
    ...(managed && place !== undefined && { decidedBy: place }),
    model: {
      name,
      ...(endpoint !== undefined && { endpoint: endpoint.id }),
      ...(container !== undefined && { container }),
      ...(address !== undefined && { address: address.toString() }),
      ...(place !== undefined && { place }),
      identity: id,
      labels: labels.toTexts(),
      managed,
    },
  };
}
