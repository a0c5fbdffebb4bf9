// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeError, isCiliumError } from '../errors/cilium-error.ts';
import { COMPONENT_TIMEOUT_MS, Lifecycle, type Component } from './component.ts';
import { settle } from './fake/manual-clock.ts';
import { silentLogger } from './logger.ts';

const NEVER = new AbortController().signal;

/** Components that write down what happens to them. */
function recorded(steps: string[], names: readonly string[], behaviour: Partial<Record<string, () => unknown>> = {}) {
  const act = async (step: string): Promise<void> => {
    steps.push(step);
    await behaviour[step]?.();
  };
  return names.map((name): Component => ({ name, start: () => act(`start ${name}`), stop: () => act(`stop ${name}`) }));
}

function fail(): never {
  throw new Error('no');
}

test('components start in order and stop in reverse; a second stop does nothing', async () => {
  const steps: string[] = [];
  const lifecycle = new Lifecycle(recorded(steps, ['a', 'b', 'c']), silentLogger);
  await lifecycle.start(NEVER);
  await lifecycle.stop();
  await lifecycle.stop();
  assert.deepEqual(steps, ['start a', 'start b', 'start c', 'stop c', 'stop b', 'stop a']);
});

test('a start that fails is named, and what had started is stopped, even if that fails too', async () => {
  const steps: string[] = [];
  const components = recorded(steps, ['a', 'b', 'c', 'd'], { 'start c': fail, 'stop b': fail });
  await assert.rejects(new Lifecycle(components, silentLogger).start(NEVER), (error) => {
    assert.equal(describeError(error), 'start c: no');
    return true;
  });
  assert.deepEqual(steps, ['start a', 'start b', 'start c', 'stop b', 'stop a']);
});

test('a signal between two starts ends the start and undoes it', async () => {
  const steps: string[] = [];
  const stop = new AbortController();
  const components = recorded(steps, ['a', 'b'], { 'start a': () => stop.abort(new Error('SIGTERM')) });
  await assert.rejects(new Lifecycle(components, silentLogger).start(stop.signal), /start b/);
  assert.deepEqual(steps, ['start a', 'stop a']);
});

test('every component is stopped, and all that went wrong is told', async () => {
  const steps: string[] = [];
  const components = recorded(steps, ['a', 'b', 'c'], { 'stop c': fail, 'stop a': fail });
  const lifecycle = new Lifecycle(components, silentLogger);
  await lifecycle.start(NEVER);
  await assert.rejects(lifecycle.stop(), (error) => {
    assert.ok(error instanceof AggregateError);
    assert.deepEqual(error.errors.map(describeError), ['stop c: no', 'stop a: no']);
    return true;
  });
  assert.deepEqual(steps.slice(3), ['stop c', 'stop b', 'stop a']);
});

test('a component that hangs is given up after its time', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const components = recorded([], ['a'], { 'start a': () => new Promise(() => undefined) });
  const outcome = new Lifecycle(components, silentLogger).start(NEVER).catch((error: unknown) => error as Error);
  await settle();
  t.mock.timers.tick(COMPONENT_TIMEOUT_MS);
  const error = await outcome;
  assert.ok(error instanceof Error && isCiliumError(error.cause, 'Timeout'));
  assert.match(error.cause.message, /a did not start in 30000 ms/);
});
