// SPDX-License-Identifier: Apache-2.0

import type { Component } from '../runtime/component.ts';

/** Something to be done when its turn comes that is no class of its own. */
export function step(name: string, start: () => unknown, stop: () => unknown = () => undefined): Component {
  return {
    name,
    start: async () => {
      await start();
    },
    stop: async () => {
      await stop();
    },
  };
}
