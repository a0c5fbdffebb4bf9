// SPDX-License-Identifier: Apache-2.0

/** The web server of `outside`: "/" says "outside", "/cgi-bin/client" says which address the request came from. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DaemonCommand } from './daemon.ts';
import { CLIENT_SCRIPT } from './images.ts';
import type { Machine } from './machine.ts';

export function outsideServer(outside: Machine): DaemonCommand {
  const documents = join(outside.dir, 'www');
  mkdirSync(join(documents, 'cgi-bin'), { recursive: true });
  writeFileSync(join(documents, 'index.html'), 'outside\n');
  writeFileSync(join(documents, 'cgi-bin/client'), CLIENT_SCRIPT, { mode: 0o755 });
  return {
    argv: ['busybox', 'httpd', '-f', '-p', '[::]:80', '-h', documents],
    env: { PATH: '/usr/bin:/bin' },
    ready: async () =>
      (await outside.run(['busybox', 'wget', '-q', '-O', '/dev/null', 'http://127.0.0.1/'])).status === 0,
  };
}
