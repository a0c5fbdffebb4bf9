// SPDX-License-Identifier: Apache-2.0

/**
 * The socket where Docker finds this plugin: network driver and IPAM driver, by the name of the file.
 *
 * The engine looks for the socket when the name is first used and then for ever takes it to be there, so it appears
 * complete (bound under another name, then renamed) and connections are never closed by us while we run: a call that
 * meets a closing connection would come again without its body.
 */
import { chmod, mkdir, rename, rm, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { basename, dirname, join } from 'node:path';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { describeError } from '../errors/cilium-error.ts';
import { PluginRouter, sendError } from '../ipam/plugin-router.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { ipamRouter } from '../ipam/routes.ts';
import type { IpAddress } from '../net/ip.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Component } from '../runtime/component.ts';
import type { Logger } from '../runtime/logger.ts';
import { NetworkDriver } from './network-driver.ts';
import type { Networks } from './networks.ts';
import { networkRouter } from './routes.ts';
import type { EndpointHooks, NetworkScope } from './types.ts';

/** A container that publishes 10,000 ports is described in 1 MB. */
const BODY_LIMIT = '8mb';
const SOCKET_MODE = 0o600;
const FOLDER_MODE = 0o755;

export interface DriverServerOptions {
  readonly socketPath: string;
  readonly ipam: Ipam;
  readonly networks: Networks;
  readonly endpoints: EndpointHooks;
  readonly scope: NetworkScope;
  /** Called when Docker has been started and finds us; it answers no question yet. */
  readonly onDockerStarted?: () => void;
  readonly clock: Clock;
  readonly log: Logger;
  readonly checkAddress?: (address: IpAddress) => void;
}

/** Answers Docker from `start` on; start it when everything that its hooks need is there. */
export class DriverServer implements Component {
  readonly name = 'driver';
  readonly #options: DriverServerOptions;
  readonly #driver: NetworkDriver;
  #server: Server | undefined;
  /** Tells our socket from that of a later agent, which `stop` must leave alone. */
  #inode: number | undefined;

  constructor(options: DriverServerOptions) {
    this.#options = options;
    this.#driver = new NetworkDriver(options);
  }

  async start(): Promise<void> {
    const { socketPath } = this.#options;
    const folder = dirname(socketPath);
    const temporary = join(folder, `.${basename(socketPath)}.${process.pid}`);
    await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
    await rm(temporary, { force: true });
    const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0 }, this.#app());
    this.#server = server;
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject).listen(temporary, resolve);
      });
      await chmod(temporary, SOCKET_MODE);
      this.#inode = (await stat(temporary)).ino;
      await rename(temporary, socketPath);
    } catch (error) {
      await this.stop();
      await rm(temporary, { force: true });
      throw error;
    }
  }

  /** Lets calls at work finish; they end by themselves within their time limit. */
  async stop(): Promise<void> {
    const { socketPath } = this.#options;
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    const present = await stat(socketPath).catch(() => undefined);
    if (present?.ino === this.#inode) await rm(socketPath, { force: true });
    await new Promise((resolve) => {
      server.close(resolve);
      server.closeIdleConnections();
    });
    await this.#driver.drain();
  }

  #app(): Express {
    const { ipam, scope, onDockerStarted, log, clock } = this.#options;
    const app = express();
    app.disable('x-powered-by');
    app.disable('etag');
    // Docker's requests carry no content type.
    app.use(express.json({ type: () => true, limit: BODY_LIMIT }));
    const plugin = new PluginRouter(log, clock);
    plugin.constant('Plugin.Activate', { Implements: ['NetworkDriver', 'IpamDriver'] }, () => {
      ipam.dockerStarted();
      onDockerStarted?.();
    });
    app.use(plugin.router, networkRouter(this.#driver, scope, log, clock), ipamRouter(ipam, log, clock));
    app.use((request: Request, response: Response) => {
      sendError(response, 404, `${request.method} ${request.path} is no method of this plugin`);
    });
    // eslint-disable-next-line @typescript-eslint/no-unused-vars -- express knows an error handler by its four parameters
    app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
      log.warn('Docker call not understood', { method: request.path.slice(1), error });
      sendError(response, 400, `${request.path.slice(1)}: ${describeError(error)}`);
    });
    return app;
  }
}
