// SPDX-License-Identifier: Apache-2.0

/** Runs programs and collects what they print. */
import { spawn, type SpawnOptions } from 'node:child_process';
import { CiliumError } from '../errors/cilium-error.ts';

const DEFAULT_TIMEOUT_MS = 60_000;
/** How much of a failed program's output goes into the error. */
const OUTPUT_IN_ERROR_CHARS = 2_000;

export interface CommandOptions {
  env?: NodeJS.ProcessEnv;
  /** Given to the program on standard input; nothing otherwise. */
  input?: string;
  /** After this the program is killed and the call throws `Timeout`. */
  timeoutMs?: number;
}

export interface CommandResult {
  /** Exit status; 128 + signal number is not imitated: a signal gives -1. */
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a program and gives back how it ended; throws only when it could not be run or took too long. */
export async function run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [program, ...args] = argv;
  if (program === undefined) throw new CiliumError('InvalidArgument', 'no command given');
  const spawnOptions: SpawnOptions = { stdio: 'pipe', ...(options.env && { env: options.env }) };
  const child = spawn(program, args, spawnOptions);
  const chunks: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  child.stdout!.on('data', (chunk: Buffer) => chunks.stdout.push(chunk));
  child.stderr!.on('data', (chunk: Buffer) => chunks.stderr.push(chunk));
  child.stdin!.on('error', () => undefined); // a program that does not read its input is none of our business
  child.stdin!.end(options.input ?? '');
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const limit = AbortSignal.timeout(timeoutMs);
  const onLimit = (): void => void child.kill('SIGKILL');
  limit.addEventListener('abort', onLimit);
  try {
    const status = await new Promise<number>((resolve, reject) => {
      child.once('error', (cause) => reject(new CiliumError('Precondition', `run ${program}`, {}, cause)));
      child.once('close', (code) => resolve(code ?? -1));
    });
    if (limit.aborted) throw new CiliumError('Timeout', `${argv.join(' ')} took more than ${timeoutMs} ms`);
    const text = (name: 'stdout' | 'stderr'): string => Buffer.concat(chunks[name]).toString();
    return { status, stdout: text('stdout'), stderr: text('stderr') };
  } finally {
    limit.removeEventListener('abort', onLimit);
  }
}

/** Runs a program that has to succeed and gives back its output without the last line end. */
export async function output(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await run(argv, options);
  if (result.status !== 0) {
    const said = (result.stderr.trim() || result.stdout.trim()).slice(-OUTPUT_IN_ERROR_CHARS);
    throw new CiliumError('System', `${argv.join(' ')} ended with status ${result.status}: ${said}`, {
      status: result.status,
      stdout: result.stdout,
      stderr: result.stderr,
    });
  }
  return result.stdout.replace(/\n$/, '');
}
