// SPDX-License-Identifier: Apache-2.0

/** The process around a program of commands. */
import { runCli, type Program } from './program.ts';

let abort: AbortController | undefined;

/** Ctrl-C ends a command at once, unless it asks to be told instead. */
function watchInterrupt(): AbortController {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => controller.abort());
  return controller;
}

/** Runs the program with the words of the command line; the process then ends with its exit status. */
export async function runProcess(program: Program): Promise<void> {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0); // the reader of a pipe, such as head, has what it wanted
  });
  const io = {
    stdout: process.stdout,
    stderr: process.stderr,
    get stdin() {
      return process.stdin; // opening it costs, and few commands read it
    },
    env: process.env,
    isRoot: process.geteuid?.() === 0,
    get interrupted() {
      return (abort ??= watchInterrupt()).signal;
    },
  };
  process.exitCode = await runCli(process.argv.slice(2), io, program);
}
