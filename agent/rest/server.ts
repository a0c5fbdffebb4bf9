// SPDX-License-Identifier: Apache-2.0

/** A REST API on its unix socket: root and the group `cilium` may use it, nobody else. */
import { chmod, chown, mkdir, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { connect } from 'node:net';
import { basename, dirname } from 'node:path';
import express, { type Router } from 'express';
import { BODY_LIMIT_BYTES } from '../../api/paths.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import type { Component } from '../../runtime/component.ts';
import type { Logger } from '../../runtime/logger.ts';
import { errorHandler, notFound } from './errors.ts';

const SOCKET_MODE = 0o660;
const SOCKET_GROUP = 'cilium';

/** What a server answers. */
export interface Api {
  /** In front of every path. */
  readonly basePath: string;
  readonly router: Router;
}

export interface RestServerDeps {
  readonly socketPath: string;
  readonly api: Api;
  readonly log: Logger;
}

export class RestServer implements Component {
  readonly name: string;
  readonly #deps: RestServerDeps;
  #server: Server | undefined;

  constructor(deps: RestServerDeps) {
    this.#deps = deps;
    this.name = basename(deps.socketPath);
  }

  async start(): Promise<void> {
    const { socketPath } = this.#deps;
    await mkdir(dirname(socketPath), { recursive: true, mode: 0o755 });
    await removeStaleSocket(socketPath);
    const server = createServer(this.#application());
    await listen(server, socketPath);
    this.#server = server;
    const group = await groupId(SOCKET_GROUP);
    if (group !== undefined) await chown(socketPath, process.getuid?.() ?? 0, group);
    await chmod(socketPath, SOCKET_MODE);
  }

  /** Ends every connection, streams included, and removes the socket. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }

  #application(): express.Express {
    const application = express();
    application.disable('x-powered-by').disable('etag');
    application.use(express.json({ limit: BODY_LIMIT_BYTES, strict: false, type: () => true }));
    application.use(this.#deps.api.basePath, this.#deps.api.router);
    application.use(notFound);
    application.use(errorHandler(this.#deps.log));
    return application;
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** Removes what an agent that was killed left behind; throws `InUse` when another agent answers there. */
async function removeStaleSocket(path: string): Promise<void> {
  const alive = await new Promise<boolean>((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
  if (alive) throw new CiliumError('InUse', `another agent serves ${path}; stop it first`);
  await rm(path, { force: true });
}

/** The number of a group of this machine, undefined when there is none of that name. */
async function groupId(name: string): Promise<number | undefined> {
  const groups = await readFile('/etc/group', 'utf8').catch(() => '');
  const line = groups.split('\n').find((text) => text.startsWith(`${name}:`));
  return line === undefined ? undefined : Number(line.split(':')[2]);
}
