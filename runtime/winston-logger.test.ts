// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { CiliumError } from '../errors/cilium-error.ts';
import { temporaryFolder } from '../tests/support/temporary-folder.ts';
import { createLogger, type RootLogger } from './winston-logger.ts';

class Lines extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
  get json(): Record<string, unknown>[] {
    return this.text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}

async function collect(format: 'text' | 'json', use: (log: RootLogger) => void): Promise<Lines> {
  const destination = new Lines();
  const log = createLogger({ level: 'info', format, destination });
  use(log);
  await log.close();
  return destination;
}

test('an error in a field is written with code, details and every cause', async () => {
  const errno = Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
  const error = new CiliumError('System', 'write ipam.json', { path: '/x/ipam.json' }, errno);
  const [line] = (await collect('json', (log) => log.error('Save failed', { error, nested: [error] }))).json;
  const expected = {
    message: 'write ipam.json',
    code: 'System',
    details: { path: '/x/ipam.json' },
    cause: { message: 'ENOSPC: no space left', name: 'Error', code: 'ENOSPC' },
  };
  assert.deepEqual(line?.['error'], expected);
  assert.deepEqual(line['nested'], [expected]);
  const { text } = await collect('text', (log) => log.error('Save failed', { error }));
  assert.match(
    text,
    /error="write ipam.json: ENOSPC: no space left" errorCode=System errorDetails="{.*ipam.json.*}"\n$/,
  );
});

test('a defect is written with its stack, an expected error without', async () => {
  const { json } = await collect('json', (log) => {
    log.error('Bug', { error: new TypeError('x is not a function') });
    log.error('No room', { error: new CiliumError('MapFull', 'add entry') });
  });
  assert.match((json[0]?.['error'] as { stack: string }).stack, /winston-logger\.test/);
  assert.ok(!('stack' in (json[1]?.['error'] as object)));
});

test('disabled levels write nothing; a change of level reaches children made before it', async () => {
  const { json } = await collect('json', (log) => {
    const child = log.child({ subsys: 'ipam' });
    child.debug('Hidden');
    assert.equal(child.isDebugEnabled(), false);
    log.setLevel('debug');
    assert.equal(log.level, 'debug');
    child.debug('Seen', { ipAddr: '10.15.0.2' });
    log.setLevel('error');
    child.warn('Hidden');
    child.error('Seen too');
  });
  assert.deepEqual(
    json.map(({ msg, level, subsys }) => [msg, level, subsys]),
    [
      ['Seen', 'debug', 'ipam'],
      ['Seen too', 'error', 'ipam'],
    ],
  );
});

test('text stays one line, quotes what needs it and leaves out what is undefined', async () => {
  const { text } = await collect('text', (log) =>
    log.child({ subsys: 'daemon' }).info('Two\nlines', { n: 3, none: undefined, list: [1], odd: 'a b="c"' }),
  );
  assert.match(text, /^time=\S+ level=info msg="Two\\nlines" subsys=daemon n=3 list=\[1\] odd="a b=\\"c\\""\n$/);
});

test('values that JSON does not know are written, and a value that cannot be written does not throw', async () => {
  const circular: Record<string, unknown> = {};
  circular['self'] = circular;
  const { json } = await collect('json', (log) => {
    log.info('Odd', { big: 2n ** 64n, map: new Map([['a', 1]]), set: new Set([1]) });
    log.info('Circular', { circular });
  });
  assert.deepEqual([json[0]?.['big'], json[0]?.['map'], json[0]?.['set']], ['18446744073709551616', { a: 1 }, [1]]);
  assert.match(String(json[1]?.['reason']), /circular/);
});

test('a message or field named like one of winston own does not disturb the line', async () => {
  const { json } = await collect('json', (log) => log.info('100 %s %d done', { splat: [1], stack: 's' }));
  assert.equal(json[0]?.['msg'], '100 %s %d done');
  assert.deepEqual([json[0]['splat'], json[0]['stack']], [[1], 's']);
});

test('a file is appended to, and close waits for the last line', async () => {
  const folder = await temporaryFolder('log');
  try {
    for (const msg of ['First', 'Second']) {
      const log = createLogger({ level: 'info', format: 'text', destination: join(folder, 'agent.log') });
      log.info(msg);
      await log.close();
    }
    assert.match(await readFile(join(folder, 'agent.log'), 'utf8'), /First\n.*Second\n$/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a destination that fails does not throw', async () => {
  const broken = new Writable({
    write: (_chunk, _encoding, done) => {
      done(new Error('EPIPE'));
    },
  });
  broken.on('error', () => undefined);
  const log = createLogger({ level: 'info', format: 'text', destination: broken });
  log.info('Lost');
  log.info('Lost too');
  await log.close();
});
