// SPDX-License-Identifier: Apache-2.0

/**
 * The error that crosses rooms: a code for programs, a sentence for people, facts for logs.
 *
 * The message says what failed and, where a person can do something, what to do. `docs/errors.md` lists every code.
 */

/** HTTP status that the REST API answers for each code. */
export const ERROR_CODES = {
  /** Input from outside is malformed; the message names the field and what was expected. */
  InvalidArgument: 400,
  NotFound: 404,
  /** The thing exists already, with other properties. */
  AlreadyExists: 409,
  /** Something else uses it: an address, a range, a network. */
  InUse: 409,
  /** Understood, but this version does not do it. */
  Unsupported: 501,
  PoolExhausted: 507,
  /** A BPF map has no room for the entry. */
  MapFull: 507,
  /** The caller lacks a privilege, or the machine lacks a facility that is needed. */
  Precondition: 412,
  KvstoreUnavailable: 503,
  /** The Docker engine did not answer, or not in time. */
  DockerUnavailable: 503,
  /** The agent does not answer on its socket; only a client sees this. */
  AgentUnavailable: 503,
  Timeout: 504,
  /** A system call failed; `details.errno` is its symbolic name. */
  System: 500,
  /** A defect of ours. */
  Internal: 500,
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** Facts that go with an error: numbers, names, addresses; never secrets. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

export class CiliumError extends Error {
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'CiliumError';
    this.code = code;
    this.details = details;
  }
}

/** True when `error` is a CiliumError, with this code if one is given. */
export function isCiliumError(error: unknown, code?: ErrorCode): error is CiliumError {
  return error instanceof CiliumError && (code === undefined || error.code === code);
}

/** The message of an error and of all its causes on one line: "a: b: c". Causes repeated by their parent are left out. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let current: unknown = error; current !== undefined && current !== null;) {
    const text = current instanceof Error ? current.message || current.name : describeThrown(current);
    if (!parts.some((part) => part.includes(text))) parts.push(text);
    if (current instanceof AggregateError) for (const inner of current.errors) parts.push(describeError(inner));
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(': ');
}

/** Whatever somebody threw that is no Error; never throws itself. */
function describeThrown(value: unknown): string {
  if (typeof value === 'string') return value;
  return typeof value === 'object' ? `thrown ${Object.keys(value ?? {}).join(', ')}` : `${value as number}`;
}
