// SPDX-License-Identifier: Apache-2.0

/** Which Docker Engine the nodes of a lab run: the system's, one fetched from another Debian release, or one's own. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CiliumError } from '../errors/cilium-error.ts';
import { output } from './command.ts';

/** Versions that can be fetched, and the Debian release that has each. */
const RELEASES: Readonly<Record<string, string>> = { '26': 'trixie', '28': 'sid' };
/** The Compose of these releases is version 2; the system's may be 1.29. */
const PACKAGES = ['docker.io', 'containerd', 'docker-compose'];
const MIRROR = 'http://deb.debian.org/debian';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const FETCH_TIMEOUT_MS = 300_000;

const engineCache = fileURLToPath(new URL('../.cache/engines', import.meta.url));

/** Folders of an engine's programs, to be searched before the system's. */
export function enginePath(engine: string | undefined): string[] {
  return engine === undefined ? [] : ['.', 'usr/sbin', 'usr/bin'].map((folder) => join(engineDir(engine), folder));
}

/** Makes sure that the engine is there; fetches a version that is known and absent. */
export async function provideEngine(engine: string | undefined): Promise<void> {
  if (engine === undefined || enginePath(engine).some((folder) => existsSync(join(folder, 'dockerd')))) return;
  const release = RELEASES[engine];
  if (release === undefined) {
    const known = Object.keys(RELEASES).join(', ');
    throw new CiliumError('NotFound', `there is no dockerd in ${engine}, and it is no version that is known: ${known}`);
  }
  await fetchEngine(release, engineDir(engine));
}

function engineDir(engine: string): string {
  return engine in RELEASES ? join(engineCache, engine) : resolve(engine);
}

/** Unpacks the packages of another Debian release into a folder; apt's own lists and sources stay as they are. */
async function fetchEngine(release: string, dir: string): Promise<void> {
  const work = `${dir}.${process.pid}`;
  rmSync(work, { recursive: true, force: true });
  try {
    mkdirSync(join(work, 'lists/partial'), { recursive: true });
    writeFileSync(join(work, 'sources.list'), `deb [signed-by=${KEYRING}] ${MIRROR} ${release} main\n`);
    const settings = {
      'Dir::Etc::sourcelist': join(work, 'sources.list'),
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::State::Lists': join(work, 'lists'),
      'Dir::Cache::pkgcache': '',
      'Dir::Cache::srcpkgcache': '',
      'APT::Sandbox::User': 'root', // downloads go into our folder
    };
    const apt = ['apt-get', '-q', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
    const inWork = ['env', '-C', work];
    await output([...inWork, ...apt, 'update'], { timeoutMs: FETCH_TIMEOUT_MS });
    await output([...inWork, ...apt, 'download', ...PACKAGES], { timeoutMs: FETCH_TIMEOUT_MS });
    const unpacked = join(work, 'unpacked');
    for (const name of readdirSync(work).filter((file) => file.endsWith('.deb'))) {
      await output(['dpkg', '-x', join(work, name), unpacked]);
    }
    renameSync(unpacked, dir);
  } catch (cause) {
    throw new CiliumError('Precondition', `fetch the engine of Debian ${release} from ${MIRROR}`, { release }, cause);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
