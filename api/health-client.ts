// SPDX-License-Identifier: Apache-2.0

/** The health API of the agent as methods. A refused request throws the CiliumError that the agent threw. */
import { CLIENT_TIMEOUT_MS } from './client.ts';
import { ApiConnection } from './connection.ts';
import type { HealthHello, HealthStatus } from './health-models.ts';
import { HEALTH_BASE_PATH, HEALTH_PATHS } from './paths.ts';

export class HealthClient {
  readonly #connection: ApiConnection;

  constructor(socketPath: string, timeoutMs: number = CLIENT_TIMEOUT_MS) {
    this.#connection = new ApiConnection(socketPath, HEALTH_BASE_PATH, timeoutMs);
  }

  hello(): Promise<HealthHello> {
    return this.#connection.call('GET', HEALTH_PATHS.hello);
  }

  /** What is known. Throws `Unsupported` where nodes are not probed. */
  status(): Promise<HealthStatus> {
    return this.#connection.call('GET', HEALTH_PATHS.status);
  }

  /** Asks all nodes now and waits for their answers. */
  probe(): Promise<HealthStatus> {
    return this.#connection.call('PUT', HEALTH_PATHS.probe);
  }
}
