// SPDX-License-Identifier: Apache-2.0
// Who may import whom. ARCHITECTURE.md explains the table; `npm run rules` checks it.
const pure = ['net', 'identity', 'policy'];
const floor = [...pure, 'runtime'];
const ground = ['kvstore', 'datapath', 'ipcache'];
const middle = ['ipam', 'driver', 'endpoint', 'node', 'dns'];
const rooms = {
  errors: [],
  net: [],
  identity: ['net'],
  policy: ['net', 'identity'],
  runtime: [],
  api: pure,
  kvstore: ['runtime'],
  datapath: ['net', 'identity', 'runtime'],
  ipcache: ['net', 'identity', 'runtime', 'kvstore'],
  ipam: [...floor, ...ground],
  driver: [...floor, ...ground, 'ipam'],
  endpoint: [...floor, ...ground],
  node: [...floor, ...ground],
  dns: ['net', 'runtime'],
  agent: [...floor, ...ground, ...middle, 'api'],
  cli: [...floor, 'api', 'datapath', 'kvstore'],
  lab: ['net', 'runtime'],
};
// The only folder that may import each package with side effects.
const owners = {
  koffi: '^datapath/ffi/',
  express: '^(driver|ipam|agent)/',
  dockerode: '^agent/',
  'dns-packet': '^dns/',
  etcd3: '^kvstore/etcd/',
  winston: '^runtime/',
  re2js: '^runtime/',
  yaml: '^(api|cli|kvstore/etcd)/',
  'ip-address': '^net/',
};
const test = '\\.test\\.ts$';
const rule = (name, from, to) => ({ name, severity: 'error', from, to });
const names = Object.keys(rooms);
module.exports = {
  forbidden: [
    rule('no-cycle', {}, { circular: true }),
    rule('tests-stay-out', { pathNot: `^tests/|/fake/|${test}` }, { path: `^tests/|/fake/|${test}` }),
    rule(
      'pure',
      { path: `^(${pure.join('|')})/`, pathNot: test },
      { dependencyTypes: ['core', 'npm'], pathNot: 'ip-address' },
    ),
    ...names.map((room) =>
      rule(
        `layer-${room}`,
        { path: `^${room}/`, pathNot: test },
        {
          path: `^(${names.filter((other) => other !== room && other !== 'errors' && !rooms[room].includes(other)).join('|')})/`,
        },
      ),
    ),
    ...Object.entries(owners).map(([name, room]) =>
      rule(`owner-${name}`, { pathNot: `${room}|^tests/|${test}` }, { path: `node_modules/${name}/` }),
    ),
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
  },
};
