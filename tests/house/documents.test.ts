// SPDX-License-Identifier: Apache-2.0

/** What the documents say about codes and options is what the sources say. UPDATE_GOLDEN=1 writes what is generated. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { AGENT_OPTIONS } from '../../agent/options.ts';
import { ERROR_CODES } from '../../errors/cilium-error.ts';
import { describeOptions, type OptionDescription } from '../../runtime/config.ts';
import { ownFiles, readOwn, ROOT } from './tree.ts';

const CONFIGURATION = 'docs/configuration.md';

test('docs/errors.md lists every error code with its HTTP status, and no other', () => {
  const rows = [...readOwn('docs/errors.md').matchAll(/^\| `(\w+)` \| (\d+) \| (.+) \| (.+) \|$/gm)];
  const documented = Object.fromEntries(rows.map(([, code, status]) => [code, Number(status)]));
  assert.deepEqual(documented, ERROR_CODES);
});

test('docs/configuration.md is what the table of options says', () => {
  const text = configurationDocument();
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(join(ROOT, CONFIGURATION), text);
  assert.equal(existsSync(join(ROOT, CONFIGURATION)) ? readOwn(CONFIGURATION) : '', text, 'UPDATE_GOLDEN=1 writes it');
});

test('every option has a description that is a sentence, and every number a unit', () => {
  for (const { flag, default: value, unit, description } of describeOptions(AGENT_OPTIONS)) {
    assert.match(description, /^[A-Z`].{9,}[.]$/s, flag);
    assert.equal(typeof value === 'number', unit !== undefined, flag);
  }
});

test('links between documents lead somewhere', () => {
  const broken: string[] = [];
  for (const path of ownFiles().filter((file) => file.endsWith('.md'))) {
    for (const [, target] of readOwn(path).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue;
      const file = normalize(join(dirname(path), target!));
      if (!existsSync(join(ROOT, file))) broken.push(`${path}: ${target!}`);
    }
  }
  assert.deepEqual(broken, []);
});

function configurationDocument(): string {
  const rows = describeOptions(AGENT_OPTIONS).map(
    (option) =>
      `| \`${option.flag}\` | ${formatDefault(option)} | ${option.values ?? ''} | ${escapeMarkdown(option.description)} |`,
  );
  return `# Configuration of the agent

Each option can be given as a flag, as a variable or in the file that \`--config\` names; a flag overrules a variable, a variable the
file, the file the default. \`--state-dir=/x\` is \`CILIUM_STATE_DIR=/x\` in the environment and \`state-dir: /x\` in the file, which may also be
JSON. Lists are separated by commas. An option that does not exist is refused, wherever it stands. \`cilium config\` shows what is in force.

| Flag | Default | Values | Meaning |
| --- | --- | --- | --- |
${rows.join('\n')}
`;
}

function formatDefault({ default: value, unit }: OptionDescription): string {
  if (value === hostname()) return 'the host name';
  const text = Array.isArray(value) ? value.join(',') : String(value);
  return text === '' ? 'none' : `\`${text}\`${unit === undefined ? '' : ` ${unit}`}`;
}

function escapeMarkdown(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
}
