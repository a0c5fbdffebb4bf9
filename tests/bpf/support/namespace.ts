// SPDX-License-Identifier: Apache-2.0

/** Privileged tests in a network and mount namespace of their own: the test file runs itself again inside them. */
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

const INSIDE = 'CILIUM_BPF_TEST_NAMESPACE';

/** Calls `define` inside the namespaces. As an ordinary user: one skipped test that says why. */
export function inNamespace(file: string, define: () => void): void {
  if (process.env[INSIDE] !== undefined) {
    define();
  } else if (process.getuid?.() !== 0) {
    test(`privileged: ${file}`, { skip: 'needs root' });
  } else {
    const command = ['--net', '--mount', process.execPath, ...process.execArgv, file];
    const { status } = spawnSync('unshare', command, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
    process.exitCode = status ?? 1;
  }
}

/** Runs a command; throws with what it said. */
export function run(command: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr || String(error)}`);
  return stdout;
}
