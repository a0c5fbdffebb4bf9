// SPDX-License-Identifier: Apache-2.0

/**
 * `make demo`: three containers of a real Docker Engine on a `cilium` network, before and after a policy is imported.
 *
 * It uses what a user has, the commands `docker` and `cilium`, checks all it shows, and fails when anything is not as
 * it should be.
 */
import { join } from 'node:path';
import { describeError } from '../errors/cilium-error.ts';
import { checkDrops, dropTable, parseDrop, type Drop } from './demo-drops.ts';
import { allowedByPolicy, everybody, probeScript, reachTable, readProbes, type App, type Probe } from './demo-reach.ts';
import { Lab } from './lab.ts';
import { HOME, type LabNode } from './node.ts';

/** Another lab's name may be given, so that a demo that is being looked at stays. */
const LAB = process.argv[2] ?? 'demo';
const NETWORK = 'cilium-net';
const APPS = ['app1', 'app2', 'app3'] as const;
const POLICY = join(HOME, 'examples/policies/l3-l4.json');
/** How long the monitor may take to show the drop of a packet that was refused. */
const EVENT_TIMEOUT_MS = 5_000;

async function demo(): Promise<boolean> {
  heading('A private node: its own network, Docker Engine and agent');
  const lab = new Lab({
    name: LAB,
    nodes: 1,
    agent: true,
    agentArgs: [],
    onProgress: (step) => console.log(`  ${step}`),
  });
  await lab.down(); // a demo that was left up
  await lab.up();
  const node = lab.node(1);

  heading('Three containers, each with a web server on ports 80 and 8080');
  await docker(node, ['network', 'create', '-d', 'cilium', '--ipam-driver', 'cilium', NETWORK]);
  for (const name of APPS) {
    const names = ['--name', name, '--hostname', name];
    await docker(node, ['run', '-d', ...names, '--network', NETWORK, '-l', `id=${name}`, 'web']);
  }
  const apps = await Promise.all(APPS.map((name) => readApp(node, name)));
  console.log(await cilium(node, ['endpoint', 'list']));

  heading('Before the import: no rule, so everybody reaches everybody (the control)');
  const before = await probe(node, apps);
  const control = reachTable(before, everybody);
  console.log(indent(control.text));

  heading('The policy: id=app2 may reach id=app1 on port 80/TCP');
  const monitor = await watchDrops(node);
  console.log(await cilium(node, ['policy', 'import', POLICY]));

  heading('After the import');
  const after = await probe(node, apps);
  const enforced = reachTable(after, allowedByPolicy);
  console.log(indent(enforced.text));

  heading('What the monitor saw: cilium monitor --type drop');
  const refused = after.filter((one) => !allowedByPolicy(one));
  const drops = await monitor.until((seen) => checkDrops(seen, refused, apps).missing.length === 0);
  const { missing, wrong } = checkDrops(drops, refused, apps);
  console.log(indent(dropTable(drops, apps)));
  for (const line of [...missing, ...wrong]) console.log(`  WRONG: ${line}`);

  const good = control.good && enforced.good && missing.length === 0 && wrong.length === 0;
  heading(good ? 'All as it should be.' : 'NOT as it should be: see the lines marked WRONG above.');
  console.log(`The node stays up. Go on with, for example:
  bin/lab --name ${LAB} exec 1 -- sh                    # docker and cilium talk to the node
  bin/lab --name ${LAB} exec 1 -- cilium monitor        # and in another terminal:
  bin/lab --name ${LAB} exec 1 -- docker exec app3 timeout 2 wget -O - http://app1:8080/
  bin/lab --name ${LAB} exec 1 -- cilium policy get
Take it down:
  bin/lab --name ${LAB} down`);
  return good;
}

async function readApp(node: LabNode, name: string): Promise<App> {
  const format = `{{with index .NetworkSettings.Networks "${NETWORK}"}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}`;
  const [ipv4 = '', ipv6 = ''] = (await node.docker(['inspect', '--format', format, name])).split(' ');
  const identities = JSON.parse(await node.cilium(['identity', 'list', '-o', 'json'])) as IdentityModel[];
  const identity = identities.find(({ labels }) => labels.includes(`container:id=${name}`))?.id;
  if (ipv4 === '' || ipv6 === '' || identity === undefined) {
    throw new Error(`${name} has address "${ipv4}", IPv6 address "${ipv6}" and identity ${identity}`);
  }
  return { name, ipv4, ipv6, identity };
}

interface IdentityModel {
  id: number;
  labels: string[];
}

/** Every container asks every other one, in both families, on both ports. */
async function probe(node: LabNode, apps: readonly App[]): Promise<Probe[]> {
  const probes = apps.map(async (from) => {
    const said = await node.docker(['exec', from.name, 'sh', '-c', probeScript(from, apps)]);
    return readProbes(from, apps, said);
  });
  return (await Promise.all(probes)).flat();
}

/** Starts `cilium monitor` and collects the drops it prints. */
async function watchDrops(node: LabNode): Promise<{ until(enough: (drops: Drop[]) => boolean): Promise<Drop[]> }> {
  const monitor = node.spawn(['cilium', 'monitor', '--type', 'drop'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let onOutput = (): void => undefined;
  for (const stream of [monitor.stdout!, monitor.stderr!]) {
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      onOutput();
    });
  }
  const wait = (satisfied: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const limit = setTimeout(resolve, EVENT_TIMEOUT_MS);
      onOutput = () => {
        if (!satisfied()) return;
        clearTimeout(limit);
        resolve();
      };
      onOutput();
    });
  await wait(() => said.includes('Press Ctrl-C to quit'));
  const drops = (): Drop[] => said.split('\n').flatMap((line) => parseDrop(line) ?? []);
  return {
    until: async (enough) => {
      await wait(() => enough(drops()));
      monitor.kill('SIGINT');
      return drops();
    },
  };
}

async function docker(node: LabNode, args: readonly string[]): Promise<void> {
  console.log(`  $ docker ${args.join(' ')}`);
  await node.docker(args);
}

async function cilium(node: LabNode, args: readonly string[]): Promise<string> {
  console.log(`  $ cilium ${args.join(' ')}`);
  return indent(await node.cilium(args));
}

function indent(text: string): string {
  return text.replace(/^/gm, '  ');
}

function heading(text: string): void {
  console.log(`\n== ${text}`);
}

try {
  process.exitCode = (await demo()) ? 0 : 1;
} catch (error) {
  console.error(`\ndemo: ${describeError(error)}\nClear with: bin/lab --name ${LAB} down`);
  process.exitCode = 1;
}
