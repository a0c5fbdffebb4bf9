// SPDX-License-Identifier: Apache-2.0

/** The health API: which nodes of the cluster answer. It has a socket of its own, as Cilium's has. */
import { Router } from 'express';
import type { HealthHello, HealthStatus } from '../../api/health-models.ts';
import { HEALTH_BASE_PATH, HEALTH_PATHS } from '../../api/paths.ts';
import { answer } from './answer.ts';
import type { Api } from './server.ts';

/** Both throw `Unsupported` where nodes are not probed. */
export interface HealthServices {
  status(): HealthStatus;
  /** Asks all nodes now; answers when each has answered or not. */
  probe(): Promise<HealthStatus>;
}

export function healthApi(services: HealthServices): Api {
  const router = Router();
  router.get(
    HEALTH_PATHS.hello,
    answer((): HealthHello => ({ status: 'ok' })),
  );
  router.get(
    HEALTH_PATHS.status,
    answer(() => services.status()),
  );
  router.put(
    HEALTH_PATHS.probe,
    answer(() => services.probe()),
  );
  return { basePath: HEALTH_BASE_PATH, router };
}
