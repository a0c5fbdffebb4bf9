// SPDX-License-Identifier: Apache-2.0

/** The `cilium-agent` command: options in, signals, exit codes. Everything else is in daemon.ts. */
import { readFile } from 'node:fs/promises';
import { ownVersion } from '../api/version.ts';
import { CiliumError, describeError } from '../errors/cilium-error.ts';
import { loadOptions } from '../runtime/config.ts';
import { createLogger } from '../runtime/winston-logger.ts';
import { checkClusterOptions } from './cluster-options.ts';
import { Daemon } from './daemon.ts';
import { openKvstore } from './kvstore.ts';
import { AGENT_OPTIONS, helpText, type AgentOptions } from './options.ts';

/** Variables of other programs of ours that share the prefix. */
const FOREIGN_ENV = ['CILIUM_SOCK', 'CILIUM_HOST', 'CILIUM_MONITOR_SOCK'];

async function main(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(helpText());
    return 0;
  }
  if (argv.includes('--version')) {
    process.stdout.write(`cilium-agent ${ownVersion().Version}\n`);
    return 0;
  }
  const options = await readOptions(argv);
  checkClusterOptions(options);
  if (process.getuid?.() !== 0) {
    throw new CiliumError('Precondition', 'the agent needs root: start it with sudo or as a system service');
  }
  const log = createLogger({ level: options.logLevel, format: options.logFormat });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info('Stopping', { signal });
      stop.abort(new CiliumError('Precondition', `stopped by ${signal}`));
    });
  }
  const kvstore = await openKvstore(options, log.child({ subsys: 'kvstore' }));
  const daemon = new Daemon(options, kvstore, log);
  await daemon.start(stop.signal);
  if (!stop.signal.aborted)
    await new Promise((resolve) => stop.signal.addEventListener('abort', resolve, { once: true }));
  await daemon.stop();
  log.info('Stopped; containers keep their network and policy');
  return 0;
}

async function readOptions(argv: readonly string[]): Promise<AgentOptions> {
  const input = { argv, env: process.env, foreignEnv: FOREIGN_ENV, program: 'cilium-agent' };
  const { values } = loadOptions(AGENT_OPTIONS, input);
  if (values.config === '') return values;
  const text = await readFile(values.config, 'utf8').catch((cause: unknown) => {
    throw new CiliumError('InvalidArgument', `--config ${values.config} cannot be read`, {}, cause);
  });
  const file = { path: values.config, text };
  return loadOptions(AGENT_OPTIONS, { ...input, file }).values;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`cilium-agent: ${describeError(error)}\n`);
  process.exitCode = 1;
}
