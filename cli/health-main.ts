// SPDX-License-Identifier: Apache-2.0

/** The `cilium-health` command as a process. */
import { CILIUM_HEALTH } from './health-program.ts';
import { runProcess } from './process.ts';

await runProcess(CILIUM_HEALTH);
