// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { CiliumError } from '../errors/cilium-error.ts';
import { ManualClock, settle } from '../runtime/fake/manual-clock.ts';
import { silentLogger } from '../runtime/logger.ts';
import type { FailedStart } from './docker.ts';
import { StrandedContainers } from './stranded-containers.ts';

const SILENT =
  'failed to set up container networking: remote: Docker did not say within 1000 ms which container endpoint 543bd062ff58 ' +
  'belongs to, so its policy is not known; start the container again';

class FakeDocker {
  answers = true;
  failed: FailedStart[] = [];
  started: string[] = [];
  /** Containers that cannot be started. */
  broken: string[] = [];

  failedStarts(driver: string): Promise<FailedStart[]> {
    assert.equal(driver, 'cilium');
    if (!this.answers) return Promise.reject(new CiliumError('DockerUnavailable', 'ask Docker'));
    return Promise.resolve(this.failed);
  }

  startContainer(id: string): Promise<void> {
    if (this.broken.includes(id)) return Promise.reject(new CiliumError('DockerUnavailable', 'no such image'));
    this.started.push(id);
    this.failed = this.failed.filter((one) => one.id !== id);
    return Promise.resolve();
  }
}

async function begin(
  t: TestContext,
  docker: FakeDocker,
): Promise<{ stranded: StrandedContainers; clock: ManualClock }> {
  const clock = new ManualClock();
  const stranded = new StrandedContainers({ docker, clock, log: silentLogger });
  t.after(() => stranded.stop());
  await stranded.start();
  await settle();
  return { stranded, clock };
}

function failure(id: string, error: string): FailedStart {
  return { id, name: id, error };
}

test('containers that Docker could not start because of us are started once Docker answers', async (t) => {
  const docker = new FakeDocker();
  const { stranded, clock } = await begin(t, docker);
  docker.answers = false;
  docker.failed = [failure('a', SILENT)];
  stranded.dockerStarted();
  await settle();
  assert.deepEqual(docker.started, []);
  docker.answers = true;
  await clock.advance(1_000);
  await settle();
  assert.deepEqual(docker.started, ['a']);
});

test('those that Docker tried to start before there was an agent are started by it', async (t) => {
  const docker = new FakeDocker();
  docker.failed = [
    failure('a', 'dial unix /run/docker/plugins/cilium.sock: connect: connection refused'),
    failure('b', 'legacy plugin: plugin "cilium" not found'),
  ];
  await begin(t, docker);
  assert.deepEqual(docker.started, ['a', 'b']);
});

test('one whose start failed for another reason is left alone, and one that fails again holds up no other', async (t) => {
  const docker = new FakeDocker();
  docker.failed = [
    failure('ports', 'remote: publishing ports is not supported on this network'),
    failure('other', 'dial unix /run/docker/plugins/other.sock: connect: connection refused'),
    failure('broken', SILENT),
    failure('last', SILENT),
  ];
  docker.broken = ['broken'];
  const { clock } = await begin(t, docker);
  await clock.advance(600_000);
  await settle();
  assert.deepEqual(docker.started, ['last']);
});
