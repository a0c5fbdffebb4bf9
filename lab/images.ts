// SPDX-License-Identifier: Apache-2.0

/**
 * Images made here, from Debian's busybox-static: no registry is asked.
 *
 * - `web` answers on ports 80 and 8080, both families: "/" says the container's host name, "/cgi-bin/client" the
 *   address that asked;
 * - `busybox` is a shell with wget, nc, ping, …
 */
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output } from './command.ts';
import type { LabNode } from './node.ts';

const BUSYBOX = '/bin/busybox';

const WEB_SCRIPT = `#!/bin/sh
hostname >/www/index.html
for port in 80 8080; do
  if [ -e /proc/net/if_inet6 ]; then httpd -h /www -p "[::]:$port"; else httpd -h /www -p "$port"; fi
done
trap exit TERM
sleep 2147483647 &
wait
`;

/** Tells the client's address, without the brackets and the IPv4-mapped form in which busybox has it. */
export const CLIENT_SCRIPT = `#!/bin/busybox sh
address=\${REMOTE_ADDR#[}
address=\${address%]}
printf 'Content-Type: text/plain\\r\\n\\r\\n%s\\n' "\${address#::ffff:}"
`;

const IMAGES: Record<string, string> = { web: '["/bin/web"]', busybox: '["/bin/sh"]' };

/** Makes the images that the node's engine does not have yet. */
export async function makeImages(node: LabNode): Promise<void> {
  const present = (await node.docker(['images', '--format', '{{.Repository}}'])).split('\n');
  const absent = Object.keys(IMAGES).filter((name) => !present.includes(name));
  if (absent.length === 0) return;
  const archive = await rootArchive(node.machine.dir);
  await Promise.all(absent.map((name) => node.docker(['import', '-c', `CMD ${IMAGES[name]!}`, archive, name])));
  rmSync(archive);
}

/** A tar of a root file system: busybox under all its names, and the web server. */
async function rootArchive(dir: string): Promise<string> {
  const root = join(dir, 'rootfs');
  const archive = `${root}.tar`;
  for (const folder of ['bin', 'etc', 'tmp', 'www/cgi-bin']) mkdirSync(join(root, folder), { recursive: true });
  copyFileSync(BUSYBOX, join(root, 'bin/busybox'));
  for (const applet of (await output([BUSYBOX, '--list'])).split('\n')) {
    if (applet !== 'busybox') symlinkSync('busybox', join(root, 'bin', applet));
  }
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  writeFileSync(join(root, 'bin/web'), WEB_SCRIPT, { mode: 0o755 });
  writeFileSync(join(root, 'www/cgi-bin/client'), CLIENT_SCRIPT, { mode: 0o755 });
  await output(['tar', '-C', root, '-cf', archive, '.']);
  rmSync(root, { recursive: true });
  return archive;
}
