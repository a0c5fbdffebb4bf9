// SPDX-License-Identifier: Apache-2.0

/** What components log through. winston-logger.ts implements it; a disabled level costs one comparison. */
import type { KnownLogFields } from './logfields.ts';

export const LOG_LEVELS = { error: 0, warn: 1, info: 2, debug: 3 } as const;
export type LogLevel = keyof typeof LOG_LEVELS;

/** Facts of a log line; the names in use stand in logfields.ts. An Error in a field is written with its causes. */
export type LogFields = Readonly<Partial<KnownLogFields> & Record<string, unknown>>;

export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  isDebugEnabled(): boolean;
  /** A logger that adds these fields to each line. */
  child(fields: LogFields): Logger;
}

/** Says nothing; for tests and tools. */
export const silentLogger: Logger = {
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
  isDebugEnabled: () => false,
  child: () => silentLogger,
};
