// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fakeEndpoint } from '../../agent/rest/fake/fake-services.ts';
import type { StatusResponse } from '../../api/models.ts';
import { ownVersion } from '../../api/version.ts';
import { runCommand, startNode } from '../../tests/support/fake-node.ts';
import { briefStatus, statusText } from './status.ts';

/** Lines with the blanks at their ends made visible. */
function lines(text: string): string[] {
  return text.split('\n').map((line) => line.replace(/ +$/, (blanks) => '.'.repeat(blanks.length)));
}

test('endpoint list shows one endpoint a row by number, and further labels below', async (t) => {
  const { run, services } = await startNode(t);
  services.endpointList.push(fakeEndpoint(1043, { ipv4: '', ipv6: '', labels: ['reserved:host'], enabled: 'both' }));
  delete services.endpointList[0]!.status.identity;
  services.endpointList.push(
    fakeEndpoint(500, {
      ipv4: '10.11.0.9',
      ipv6: 'f00d::9',
      labels: ['container:a=b', 'container:c'],
      enabled: 'ingress',
    }),
  );
  const { stdout, status } = await run('endpoint', 'list');
  assert.equal(status, 0);
  assert.deepEqual(
    lines(stdout),
    [
      'ENDPOINT   POLICY (ingress)   POLICY (egress)   IDENTITY        LABELS (source:key[=value])   IPv6         IPv4         STATUS...',
      '           ENFORCEMENT        ENFORCEMENT                                                                               .........',
      '29         Disabled           Disabled          41029           container:id=app2             f00d::b08c   10.11.0.87   ready....',
      '173        Disabled           Disabled          <no label id>   no labels                     f00d::b2f1   10.11.0.40   ready....',
      '500        Enabled            Disabled          41500           container:a=b                 f00d::9      10.11.0.9    ready....',
      '                                                                container:c                                             .........',
      '1043       Enabled            Enabled           42043           reserved:host                                           ready....',
      '',
    ].map((line) => line.replace(/ +\.{9}$/, (end) => '.'.repeat(end.length))),
  );
});

test('endpoint list without headers, as JSON, YAML and jsonpath', async (t) => {
  const { run } = await startNode(t);
  assert.match((await run('endpoint', 'ls', '--no-headers')).stdout, /^29 /);
  const json = (await run('endpoint', 'list', '-o', 'json')).stdout;
  assert.match(json, /^\[\n {2}\{\n {4}"id": 29,\n {4}"status": \{\n {6}"external-identifiers"/);
  assert.ok(json.endsWith(']\n\n'));
  assert.match((await run('endpoint', 'list', '-o', 'yaml')).stdout, /^- id: 29\n {2}status:\n/);
  assert.equal((await run('endpoint', 'list', '-o', 'jsonpath={[*].id}')).stdout, '29 173\n');
});

test('endpoint get is JSON also when not asked for, by ID or by labels', async (t) => {
  const { run } = await startNode(t);
  const byName = JSON.parse((await run('endpoint', 'get', 'container-name:box29')).stdout) as { id: number }[];
  assert.deepEqual(
    byName.map(({ id }) => id),
    [29],
  );
  assert.equal((await run('endpoint', 'get', '-l', 'container:tier=web', '-o', 'jsonpath={[0].id}')).stdout, '173\n');
  const { stderr, status } = await run('endpoint', 'get', '30');
  assert.deepEqual([stderr, status], ['Error: endpoint 30 not found\n', 1]);
  assert.match((await run('endpoint', 'get')).stderr, /give either an endpoint ID or --labels/);
});

test('endpoint labels adds labels and takes them away', async (t) => {
  const { run, services } = await startNode(t);
  assert.equal((await run('endpoint', 'labels', '29')).stdout, 'container:id=app2   Enabled\n');
  const { stdout } = await run('endpoint', 'labels', '29', '-a', 'blue,container:env=test', '-d', 'id=app2');
  assert.equal(stdout, 'container:env=test   Enabled\ncontainer:id=app2    Disabled\nunspec:blue          Enabled\n');
  const labels = () => services.endpointList[1]!.status.labels.realized;
  assert.deepEqual(labels(), { user: ['unspec:blue', 'container:env=test'], disabled: ['container:id=app2'] });
  await run('endpoint', 'labels', '29', '-d', 'blue', '-a', 'container:id=app2');
  assert.deepEqual(labels(), { user: ['container:env=test'], disabled: [] });
  assert.match(
    (await run('endpoint', 'labels', '29', '-d', 'green')).stderr,
    /^Error: the endpoint has no label unspec:green\n$/,
  );
});

test('identity list shows numbers and labels, one label a row', async (t) => {
  const { run } = await startNode(t);
  assert.deepEqual(lines((await run('identity', 'list')).stdout), [
    'ID      LABELS',
    '1       reserved:host',
    '2       reserved:world',
    '41029   container:id=app2',
    '41173   container:id=app1',
    '        container:tier=web',
    '',
  ]);
  assert.equal(
    (await run('identity', 'list', 'container:id=app2')).stdout,
    'ID      LABELS\n41029   container:id=app2\n',
  );
  assert.equal((await run('identity', 'get', '1')).stdout, 'ID   LABELS\n1    reserved:host\n');
  assert.match(
    (await run('identity', 'get', '--label', 'reserved:none')).stderr,
    /^Error: identity with exactly the labels/,
  );
});

const STATUS: StatusResponse = {
  cilium: { state: 'Ok', msg: '0.1.0' },
  kvstore: { state: 'Ok', msg: 'embedded: revision 7' },
  'container-runtime': { state: 'Ok', msg: 'docker daemon: OK' },
  nodeMonitor: { cpus: 8, npages: 512, pagesize: 4096, lost: 2, unknown: 0 },
  ipam: {
    status: 'IPv4: 2/254 allocated from 10.16.0.0/24',
    allocations: { '10.16.0.3': 'box', '10.16.0.1': 'router' },
  },
  routing: { 'inter-host-routing-mode': 'Native', 'intra-host-routing-mode': 'BPF' },
  'attach-mode': 'tc',
  'datapath-mode': 'veth',
  masquerading: { enabled: true, mode: 'BPF', devices: ['eth0'], enabledProtocols: { ipv4: true, ipv6: false } },
  controllers: [
    {
      name: 'collect',
      status: {
        'success-count': 3,
        'failure-count': 0,
        'consecutive-failure-count': 0,
        'last-success-timestamp': '2026-01-05T10:00:00Z',
      },
    },
    {
      name: 'docker-events',
      status: {
        'success-count': 1,
        'failure-count': 4,
        'consecutive-failure-count': 4,
        'last-failure-timestamp': '2026-01-05T09:58:58Z',
        'last-failure-msg': 'connection refused',
      },
    },
  ],
  'identity-range': { 'min-identity': 256, 'max-identity': 65535 },
  'bpf-maps': { maps: [{ name: 'Endpoints', size: 65535 }] },
};
const NOW_MS = Date.parse('2026-01-05T10:00:12Z');

test('status shows a line for each part, and the controllers that fail', () => {
  assert.deepEqual(lines(statusText(STATUS, undefined, {}, NOW_MS)), [
    'KVStore:                 Ok   embedded: revision 7',
    'ContainerRuntime:        Ok   docker daemon: OK',
    'Cilium:                  Ok   0.1.0',
    'NodeMonitor:             Listening for events on 8 CPUs with 512x4096 of shared memory',
    '                         2 events lost, 0 unknown notifications',
    'IPAM:                    IPv4: 2/254 allocated from 10.16.0.0/24',
    'Routing:                 Network: Native   Host: BPF',
    'Attach Mode:             Legacy TC',
    'Device Mode:             veth',
    'Masquerading:            BPF   [eth0]   [IPv4: Enabled, IPv6: Disabled]',
    'Controller Status:       1/2 healthy',
    '  Name            Last success   Last error   Count   Message',
    '  docker-events   never          1m14s ago    4       connection refused...',
    'Global Identity Range:   min 256, max 65535',
    '',
  ]);
});

test('status --verbose adds addresses, all controllers and the maps', () => {
  const text = statusText(STATUS, undefined, { verbose: true }, NOW_MS);
  assert.match(text, /^Allocated addresses:\n {2}10\.16\.0\.1 \(router\)\n {2}10\.16\.0\.3 \(box\)\n/m);
  assert.match(text, /^ {2}collect {9}12s ago {8}never {8}0 {7}no error {13}$/m);
  assert.match(text, /BPF Maps:\n {2}Name {8}Size\n {2}Endpoints {3}65535\n$/);
});

test('status leaves out what the agent does not report', () => {
  assert.equal(statusText({ cilium: { state: 'Ok' } }, undefined, {}, NOW_MS), 'Cilium:   Ok   \n');
});

test('status --brief is OK or the first thing that is wrong', () => {
  assert.equal(briefStatus({ cilium: { state: 'Ok' } }), 'OK');
  assert.equal(briefStatus(STATUS), 'error in controller docker-events: connection refused');
  const sick: StatusResponse = {
    cilium: { state: 'Warning', msg: 'x' },
    kvstore: { state: 'Failure', msg: 'disk full' },
  };
  assert.equal(briefStatus(sick), 'error in kvstore: disk full');
});

test('the exit status of status tells whether the agent is well', async (t) => {
  const { run, services } = await startNode(t);
  assert.equal((await run('status')).status, 0);
  services.statusResponse.cilium = { state: 'Warning', msg: 'docker is gone' };
  const { stdout, status } = await run('status');
  assert.equal(status, 1);
  assert.match(stdout, /^Cilium: +Warning {3}docker is gone$/m);
  assert.match(
    (await runCommand(['status', '--brief'], { env: { CILIUM_SOCK: '/none' } })).stderr,
    /^cilium: daemon unreachable\n/,
  );
});

test('version shows both sides, and an agent that is away is no error', async (t) => {
  const { run } = await startNode(t);
  const own = ownVersion();
  const client = `Client: ${own.Version} ${own.Runtime} ${own.Arch}\n`;
  assert.equal((await run('version')).stdout, `${client}Daemon: 7.8.9 node v24.0.0 linux/x64\n`);
  assert.equal((await run('version', '-o', 'jsonpath={.Daemon.Version}')).stdout, '7.8.9\n');
  assert.deepEqual(await runCommand(['version'], { env: { CILIUM_SOCK: '/none' } }), {
    stdout: `${client}Daemon: Not responding\n`,
    stderr: '',
    status: 0,
  });
});

test('config shows what can be changed, changes it, and shows what is fixed', async (t) => {
  const { run } = await startNode(t);
  assert.deepEqual(lines((await run('config')).stdout), [
    '##### Read-write configurations #####',
    'Debug                             : Disabled',
    'MonitorAggregationLevel           : Medium',
    'PolicyEnforcement                 : default',
    '',
  ]);
  assert.deepEqual(await run('config', 'debug=true', 'PolicyEnforcement=always'), {
    stdout: '',
    stderr: '',
    status: 0,
  });
  assert.equal((await run('config', 'get', 'policy-enforcement')).stdout, 'always\n');
  assert.equal((await run('config', 'get', 'Debug')).stdout, 'Enabled\n');
  assert.equal((await run('config', 'get', 'EnableIPv4')).stdout, 'true\n');
  assert.match(
    (await run('config', '-r')).stdout,
    /^#### Read-only configurations ####\nenable-ipv4 {23}: true\nlabel-ignore/,
  );
  assert.match((await run('config', '-a', '-o', 'json')).stdout, /"Debug": "Enabled"[^]*"enable-ipv4": true/);
});

for (const [argv, message] of [
  [['Debug'], '"Debug" is not of the form OPTION=VALUE'],
  [['PolicyEnforcement=perhaps'], 'PolicyEnforcement is default, always or never, not "perhaps"'],
  [['Nothing=1'], 'unknown option "Nothing" (there are: Debug, MonitorAggregationLevel)'],
  [['get', 'nothing'], 'Configuration does not exist'],
] as const) {
  test(`config ${argv.join(' ')} is refused`, async (t) => {
    const { run } = await startNode(t);
    assert.deepEqual(await run('config', ...argv), { stdout: '', stderr: `Error: ${message}\n`, status: 1 });
  });
}

test('map list shows how full the maps are, map get what one holds', async (t) => {
  const { run, services } = await startNode(t);
  const path = (name: string) => `/sys/fs/bpf/tc/globals/${name}`;
  const cache = [
    { key: '10.11.0.87', value: 'id=29' },
    { key: '10.11.0.40', value: 'id=173' },
  ];
  services.mapList = [
    { path: path('cilium_lxc'), type: 'hash', 'max-entries': 65_535, 'num-entries': 2, memory: 7_000_000, cache },
    { path: path('cilium_events'), type: 'ringbuf', 'max-entries': 2_097_152, memory: 2_100_000 },
  ];
  assert.deepEqual(lines((await run('map', 'list')).stdout), [
    'Name            Num entries   Max entries   Memory    Type',
    'cilium_events   unknown       2097152       2100000   ringbuf',
    'cilium_lxc      2             65535         7000000   hash',
    '',
  ]);
  assert.equal(
    (await run('map', 'get', 'cilium_lxc')).stdout,
    'Key          Value\n10.11.0.40   id=173\n10.11.0.87   id=29\n',
  );
  assert.match((await run('map', 'get', 'cilium_events')).stdout, /^The entries of this map are not shown here/);
  assert.deepEqual(await run('map', 'get', 'cilium_none'), {
    stdout: '',
    stderr: 'Error: map cilium_none not found\n',
    status: 1,
  });
});

for (const argv of [
  ['bpf', 'ct', 'list'],
  ['bpf', 'policy', 'get', '12'],
  ['bpf', 'endpoint', 'list'],
]) {
  test(`${argv.join(' ')} is for root only`, async () => {
    assert.deepEqual(await runCommand(argv), {
      stdout: '',
      stderr: `Error: Please run "cilium ${argv.slice(0, 3).join(' ')}" command(s) with root privileges.\n`,
      status: 1,
    });
  });
}

test('bpf policy get wants one endpoint or all', async () => {
  for (const argv of [[], ['12', '--all']]) {
    const { stderr, status } = await runCommand(['bpf', 'policy', 'get', ...argv], { isRoot: true });
    assert.deepEqual([stderr, status], ['Error: give either the number of an endpoint or --all\n', 1]);
  }
});

test('the completion scripts are read by their shells and complete commands and options', async () => {
  const { stdout } = await runCommand(['completion', 'bash']);
  const complete = (...words: string[]) => {
    const line = words.map((word) => `'${word}'`).join(' ');
    const act = `COMP_WORDS=(${line}); COMP_CWORD=${words.length - 1}; _cilium; echo "\${COMPREPLY[*]}"`;
    return spawnSync('bash', ['-c', `${stdout}\n${act}`], { encoding: 'utf8' });
  };
  assert.deepEqual([complete('cilium', 'end').stdout, complete('cilium', 'end').stderr], ['endpoint\n', '']);
  assert.equal(complete('cilium', 'policy', 'va').stdout, 'validate\n');
  assert.equal(complete('cilium', '-D', 'monitor', '--rel').stdout, '--related-to\n');
  assert.match((await runCommand(['completion', 'zsh'])).stdout, /^autoload -U \+X bashcompinit/);
  assert.match(
    (await runCommand(['completion', 'fish'])).stdout,
    /^complete -c cilium -n .* -a 'status version config /,
  );
  assert.match((await runCommand(['completion', 'tcsh'])).stderr, /'tcsh' is invalid for argument 'shell'/);
});
