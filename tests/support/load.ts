// SPDX-License-Identifier: Apache-2.0

/** Several sub-commands of the traffic tool that run at once, and what each of them counted. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import {
  RECEIVERS,
  type Place,
  Traffic,
  type TrafficCommand,
  type TrafficOptions,
  type TrafficResults,
} from '../traffic/traffic.ts';

/** All traffic of a test, by the sub-command and what it is about: "crr ipv4". It ends with the test at the latest. */
export class Load {
  readonly #running = new Map<string, Traffic<TrafficCommand>>();
  readonly results = new Map<string, TrafficResults[TrafficCommand]>();

  async start(t: TestContext, place: Place, command: TrafficCommand, about: string, options: TrafficOptions) {
    const traffic = await Traffic.start(place, command, options);
    if (this.#running.size === 0) t.after(() => this.stop().catch(() => undefined));
    this.#running.set(`${command} ${about}`, traffic);
  }

  /** Senders first, then receivers: those wait until nothing is under way. May be called twice. */
  async stop(): Promise<void> {
    const failures: unknown[] = [];
    for (const areReceivers of [false, true]) {
      const some = [...this.#running].filter(([, { command }]) => RECEIVERS.includes(command) === areReceivers);
      const stopping = some.map(async ([name, traffic]) => {
        await traffic.stop().then(
          (result) => this.results.set(name, result),
          (error: unknown) => failures.push(error),
        );
      });
      await Promise.all(stopping);
    }
    if (failures.length > 0) throw new AggregateError(failures, 'traffic failed');
  }

  result<C extends TrafficCommand>(name: `${C} ${string}`): TrafficResults[C] {
    const result = this.results.get(name);
    assert.ok(result, name);
    return result as TrafficResults[C];
  }
}
