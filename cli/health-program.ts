// SPDX-License-Identifier: Apache-2.0

/** The `cilium-health` command: which nodes of the cluster answer. */
import { DEFAULT_SOCKET, healthSocketBeside } from '../api/paths.ts';
import type { Program } from './program.ts';

export const CILIUM_HEALTH: Program = {
  name: 'cilium-health',
  description: 'Which nodes of the cluster answer, and how fast',
  hostHelp: `address of the health API (default: beside the socket of the agent, unix://${healthSocketBeside(DEFAULT_SOCKET)})`,
  setHost: (context, uri) => {
    context.healthHost = uri;
  },
  commands: {
    status: {
      description: 'Show which nodes answer and how fast',
      load: async () => (await import('./commands/health.ts')).registerStatus,
    },
    ping: {
      description: 'Ask the agent of this node whether it is there',
      load: async () => (await import('./commands/health.ts')).registerPing,
    },
  },
};
