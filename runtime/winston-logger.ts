// SPDX-License-Identifier: Apache-2.0

/**
 * The Logger that writes, through winston.
 *
 * Levels are compared here, before winston is entered (a disabled line costs 11 ns, not 4.6 µs), children are our own
 * (their fields are merged once), and errors in fields are unfolded: winston would write them as `{}`.
 * A destination that fails never ends the process: what cannot be written is lost.
 */
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import winston from 'winston';
import { CiliumError, describeError } from '../errors/cilium-error.ts';
import { LOG_LEVELS, type LogFields, type Logger, type LogLevel } from './logger.ts';

export interface LoggerOptions {
  readonly level: LogLevel;
  /** text: `time=… level=info subsys=daemon msg="…" key=value`; json: one object a line. */
  readonly format: 'text' | 'json';
  /** A stream that is already open (it stays open), or the path of a file to append to. @default stderr */
  readonly destination?: Writable | string;
  /** Fields of every line. */
  readonly fields?: LogFields;
}

export interface RootLogger extends Logger {
  /** Also changes the level of all children. */
  setLevel(level: LogLevel): void;
  readonly level: LogLevel;
  /** Resolves when all lines are written; what is logged afterwards is lost. */
  close(): Promise<void>;
}

export function createLogger(options: LoggerOptions): RootLogger {
  const { destination = process.stderr } = options;
  const stream = typeof destination === 'string' ? openLogFile(destination) : destination;
  const ownStream = stream === destination ? undefined : stream;
  const render = options.format === 'json' ? renderJson : renderText;
  const sink = winston.createLogger({
    levels: LOG_LEVELS,
    level: 'debug',
    format: winston.format.printf((info) => render(info.level, info.message as string, info['fields'] as LogFields)),
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- winston's types name an interface
    transports: [new winston.transports.Stream({ stream })],
  });
  sink.on('error', () => undefined);
  const threshold = { level: options.level, value: LOG_LEVELS[options.level] };
  return Object.assign(new WinstonLogger(sink, threshold, options.fields ?? {}), {
    close: () => closeSink(sink, ownStream),
  });
}

/** Shared by a root logger and its children, so that a change of level reaches all. */
interface Threshold {
  level: LogLevel;
  value: number;
}

class WinstonLogger implements Logger {
  readonly #sink: winston.Logger;
  readonly #threshold: Threshold;
  readonly #fields: LogFields;

  constructor(sink: winston.Logger, threshold: Threshold, fields: LogFields) {
    this.#sink = sink;
    this.#threshold = threshold;
    this.#fields = fields;
  }

  error(message: string, fields?: LogFields): void {
    this.#write('error', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    if (this.#threshold.value >= LOG_LEVELS.warn) this.#write('warn', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    if (this.#threshold.value >= LOG_LEVELS.info) this.#write('info', message, fields);
  }

  debug(message: string, fields?: LogFields): void {
    if (this.#threshold.value >= LOG_LEVELS.debug) this.#write('debug', message, fields);
  }

  isDebugEnabled(): boolean {
    return this.#threshold.value >= LOG_LEVELS.debug;
  }

  child(fields: LogFields): Logger {
    return new WinstonLogger(this.#sink, this.#threshold, { ...this.#fields, ...fields });
  }

  get level(): LogLevel {
    return this.#threshold.level;
  }

  setLevel(level: LogLevel): void {
    this.#threshold.level = level;
    this.#threshold.value = LOG_LEVELS[level];
  }

  #write(level: LogLevel, message: string, fields: LogFields | undefined): void {
    this.#sink.log({ level, message, fields: fields === undefined ? this.#fields : { ...this.#fields, ...fields } });
  }
}

function openLogFile(path: string): Writable {
  const stream = createWriteStream(path, { flags: 'a', mode: 0o640 });
  stream.on('error', () => undefined);
  return stream;
}

async function closeSink(sink: winston.Logger, ownStream: Writable | undefined): Promise<void> {
  await new Promise<void>((resolve) => {
    sink.once('finish', resolve);
    sink.end();
  });
  if (ownStream === undefined) return;
  await new Promise<void>((resolve) => {
    ownStream.once('close', resolve);
    ownStream.end();
  });
}

function renderJson(level: string, message: string, fields: LogFields): string {
  const line = { time: new Date().toISOString(), level, msg: message, ...fields };
  return stringify(line);
}

function renderText(level: string, message: string, fields: LogFields): string {
  let line = `time=${new Date().toISOString()} level=${level} msg=${quote(message)}`;
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (!(value instanceof Error)) {
      line += ` ${name}=${quote(toText(value))}`;
      continue;
    }
    line += ` ${name}=${quote(describeError(value))}`;
    if (value instanceof CiliumError) {
      line += ` ${name}Code=${value.code}`;
      if (Object.keys(value.details).length > 0) line += ` ${name}Details=${quote(stringify(value.details))}`;
    }
    if (isDefect(value)) line += ` ${name}Stack=${quote(value.stack ?? '')}`;
  }
  return line;
}

function toText(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null) return String(value);
  const isPlain = Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
  return isPlain || value instanceof Map || value instanceof Set
    ? stringify(value)
    : safely(() => (value as { toString(): string }).toString());
}

/** A word stays as it is; anything else is quoted, so that a line stays one line and can be split again. */
function quote(text: string): string {
  return /^[\w.:/@+[\]-]+$/.test(text) ? text : JSON.stringify(text);
}

function stringify(value: unknown): string {
  return safely(() => JSON.stringify(value, replaceUnprintable));
}

/** Whatever is handed to the logger, logging does not throw. */
function safely(render: () => string): string {
  try {
    return render();
  } catch (error) {
    return JSON.stringify({ msg: 'Log line could not be written', reason: describeError(error) });
  }
}

function replaceUnprintable(_key: string, value: unknown): unknown {
  if (value instanceof Error) return unfold(value);
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Map) return Object.fromEntries(value);
  if (value instanceof Set) return [...(value as Set<unknown>)];
  return value;
}

function unfold(error: Error): object {
  return {
    message: error.message,
    ...(error instanceof CiliumError
      ? { code: error.code, ...(Object.keys(error.details).length > 0 && { details: error.details }) }
      : { name: error.name, ...('code' in error && { code: error.code }) }),
    ...(error.cause !== undefined && { cause: error.cause }),
    ...(error instanceof AggregateError && { errors: error.errors as unknown[] }),
    ...(isDefect(error) && { stack: error.stack }),
  };
}

/** A stack helps only with what nobody foresaw. */
function isDefect(error: Error): boolean {
  if (error instanceof CiliumError) return error.code === 'Internal';
  return error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
}
