// SPDX-License-Identifier: Apache-2.0

/** The `cilium` command as a process. */
import { runProcess } from './process.ts';
import { CILIUM } from './program.ts';

await runProcess(CILIUM);
