// SPDX-License-Identifier: Apache-2.0

/** Between our interface and etcd's messages: keys with the namespace, numbers that come as text, transactions. */
import type { ICompare, IKeyValue, IRequestOp, ITxnRequest } from 'etcd3';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { KvCondition, KvEntry, KvOperation, KvRead, KvTransaction } from '../kvstore.ts';
import { decodeRangeResponse, type RangePage } from './range-response.ts';

export interface KeyRange {
  readonly key: Buffer;
  readonly range_end: Buffer;
}

const AFTER_ALL = Buffer.from([0]);

export class EtcdMessages {
  readonly #namespace: string;
  readonly #namespaceBytes: number;

  constructor(namespace: string) {
    this.#namespace = namespace;
    this.#namespaceBytes = Buffer.byteLength(namespace);
  }

  key(key: string): Buffer {
    return Buffer.from(this.#namespace + key);
  }

  /** All keys that begin with the prefix, byte by byte. */
  range(prefix: string): KeyRange {
    const key = this.key(prefix);
    if (key.length === 0) return { key: AFTER_ALL, range_end: AFTER_ALL };
    const end = Buffer.from(key);
    end[end.length - 1]! += 1; // UTF-8 has no byte 0xff: no carry
    return { key, range_end: end };
  }

  page(bytes: Buffer): RangePage {
    return decodeRangeResponse(bytes, this.#namespaceBytes);
  }

  keyOf(bytes: Buffer): string {
    return bytes.toString('utf8', this.#namespaceBytes);
  }

  entry({ key, value, create_revision, mod_revision, lease }: IKeyValue): KvEntry {
    return {
      key: this.keyOf(key),
      value: value.toString('utf8'),
      createRevision: toNumber(create_revision),
      modRevision: toNumber(mod_revision),
      ...(lease !== '0' && { leaseId: leaseText(lease) }),
    };
  }

  /** `leases`: what each leased key is attached to. */
  transaction({ when = [], then, otherwise = [] }: KvTransaction, leases: ReadonlyMap<string, string>): ITxnRequest {
    checkTouchedOnce(then);
    return {
      compare: when.map((condition) => this.#compare(condition)),
      success: then.map((operation) => this.#operation(operation, leases)),
      failure: otherwise.map((read) => this.read(read)),
    };
  }

  read(read: KvRead): IRequestOp {
    return { request_range: 'get' in read ? { key: this.key(read.get) } : this.range(read.list) };
  }

  #compare(condition: KvCondition): ICompare {
    if ('prefix' in condition) {
      const range = this.range(condition.prefix);
      // Of a range, each key is compared; of an empty one, a key that is all zero, and values not at all.
      if ('value' in condition) {
        return { ...range, target: 'Value', result: 'Equal', value: Buffer.from(condition.value) };
      }
      return { ...range, target: 'Mod', result: 'Less', mod_revision: condition.unchangedSince + 1 };
    }
    const key = this.key(condition.key);
    if ('exists' in condition) {
      return { key, target: 'Version', result: condition.exists ? 'Greater' : 'Equal', version: 0 };
    }
    if ('value' in condition) return { key, target: 'Value', result: 'Equal', value: Buffer.from(condition.value) };
    return { key, target: 'Mod', result: 'Equal', mod_revision: condition.modRevision };
  }

  #operation(operation: KvOperation, leases: ReadonlyMap<string, string>): IRequestOp {
    if ('delete' in operation) return { request_delete_range: { key: this.key(operation.delete) } };
    if ('deletePrefix' in operation) return { request_delete_range: this.range(operation.deletePrefix) };
    const put = { key: this.key(operation.put), value: Buffer.from(operation.value) };
    return {
      request_put: operation.leased === true ? { ...put, lease: leaseNumber(leases.get(operation.put)!) } : put,
    };
  }
}

/** Leases are shown in hexadecimal, as etcdctl does, and sent as a decimal number. */
export function leaseText(decimal: string): string {
  return BigInt(decimal).toString(16);
}

export function leaseNumber(text: string): string {
  return BigInt(`0x${text}`).toString();
}

/** Revisions come as text; ours are numbers. */
export function toNumber(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number)) throw new CiliumError('Internal', `etcd sent ${text} for a revision`, { text });
  return number;
}

/** etcd bears some repetitions, in an order of its own; we bear none. */
function checkTouchedOnce(operations: readonly KvOperation[]): void {
  const keys = operations.flatMap((operation) =>
    'put' in operation ? [operation.put] : 'delete' in operation ? [operation.delete] : [],
  );
  const prefixes = operations.flatMap((operation) => ('deletePrefix' in operation ? [operation.deletePrefix] : []));
  const isTwice =
    new Set(keys).size < keys.length ||
    prefixes.some((prefix, index) =>
      [...keys, ...prefixes.toSpliced(index, 1)].some((other) => other.startsWith(prefix)),
    );
  if (isTwice) throw new CiliumError('InvalidArgument', 'a transaction touches a key twice', { operations });
}
