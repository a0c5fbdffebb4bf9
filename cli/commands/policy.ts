// SPDX-License-Identifier: Apache-2.0

/** `cilium policy import|get|delete|validate|wait`. */
import { InvalidArgumentError, type Command } from 'commander';
import type { PolicyImportRequest } from '../../api/client.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import { formatLabel, parseSelectLabel } from '../../identity/label.ts';
import type { PolicyContent } from '../../policy/resources/policy-source.ts';
import type { Context } from '../context.ts';
import { formatted, withOutput, type OutputOptions } from '../output/print.ts';
import { planText } from '../output/policy-plan-text.ts';
import { emptyNamespacesNote } from '../namespaces.ts';
import { readPolicyFiles, withPlaces } from '../policy-files.ts';
import { DEFAULT_WAIT, IMPORT_WAIT, waitForRevision } from '../policy-wait.ts';
import { registerQuestions } from './policy-questions.ts';

interface ImportOptions extends OutputOptions {
  readonly print?: boolean;
  readonly replace?: boolean;
  readonly replaceWithLabels?: string;
  readonly dryRun?: boolean;
  readonly wait: boolean;
}

interface DeleteOptions extends OutputOptions {
  readonly all?: boolean;
}

interface WaitOptions {
  readonly sleepTime: number;
  readonly failWaitTime: number;
  readonly maxWaitTime: number;
}

const FILES_HELP = 'files or folders of rules and resources, JSON or YAML; - for standard input';

export function register(program: Command, context: Context): void {
  const group = program.command('policy').description('Rules: import, show, delete, check, explain, simulate');
  withOutput(group.command('import'))
    .description('Add rules, all or none; answers when every endpoint enforces them')
    .argument('<path...>', FILES_HELP)
    .option('--print', 'show the rules before the revision')
    .option('--replace', 'rules with the labels of an imported rule give way to it')
    .option('--replace-with-labels <labels>', 'rules with these labels (comma-separated) give way to the import')
    .option('--dry-run', 'check everything, change nothing and show what the import would do')
    .option('--no-wait', 'answer as soon as the agent has remembered the rules')
    .action((paths: string[], options: ImportOptions) => importPolicy(context, paths, options));
  withOutput(group.command('get'))
    .description('Show all rules, or those that carry all the labels given')
    .argument('[labels...]', '[source:]key[=value]')
    .action((labels: string[], options: OutputOptions) => getPolicy(context, labels, options));
  withOutput(group.command('delete'))
    .description('Delete the rules that carry all the labels given, or all rules')
    .argument('[labels...]', '[source:]key[=value]')
    .option('--all', 'delete every rule')
    .action((labels: string[], options: DeleteOptions) => deletePolicy(context, labels, options));
  group
    .command('validate')
    .description('Check rules without an agent')
    .argument('<path...>', FILES_HELP)
    .option('--print', 'show the rules')
    .action((paths: string[], options: { print?: boolean }) => validatePolicy(context, paths, options));
  group
    .command('wait')
    .description('Wait until every endpoint enforces a revision of the policy')
    .argument('<revision>', 'as `policy import` answers it', parseCount)
    .option('--sleep-time <seconds>', 'longest pause between two looks', parseSeconds, DEFAULT_WAIT.sleepMs / 1000)
    .option(
      '--fail-wait-time <seconds>',
      'patience with endpoints that failed',
      parseSeconds,
      DEFAULT_WAIT.failWaitMs / 1000,
    )
    .option('--max-wait-time <seconds>', 'patience with all others', parseSeconds, DEFAULT_WAIT.maxWaitMs / 1000)
    .action((revision: number, options: WaitOptions) => waitForPolicy(context, revision, options));
  registerQuestions(group, context);
}

async function importPolicy(context: Context, paths: readonly string[], options: ImportOptions): Promise<void> {
  const files = await readPolicyFiles(paths, () => context.io.stdin);
  const request: PolicyImportRequest = {
    replace: options.replace === true,
    replaceWithLabels: options.replaceWithLabels?.split(',') ?? [],
    brief: options.print !== true && options.output === undefined,
  };
  const client = context.client();
  const refused = (error: unknown): never => {
    throw withPlaces(error, files);
  };
  if (options.dryRun === true) {
    const plan = await client.planImport({ sources: files.sources }, request).catch(refused);
    if (plan['too-large'].length > 0) context.exitStatus = 1;
    context.print((await formatted(plan, options)) ?? planText(plan));
    return;
  }
  const policy = await client.importPolicy({ sources: files.sources }, request).catch(refused);
  if (options.wait) await waitForRevision(client, policy.revision, IMPORT_WAIT);
  const note = await emptyNamespacesNote(
    files.documents.flatMap(({ items }) => items),
    client,
  );
  if (note !== undefined) context.warn(note);
  const rules = options.print === true ? `${policy.policy}\n` : '';
  context.print((await formatted(policy, options)) ?? `${rules}Revision: ${policy.revision}\n`);
}

async function getPolicy(context: Context, labels: readonly string[], options: OutputOptions): Promise<void> {
  const policy = await context.client().policy(labels.map(selectText));
  context.print((await formatted(policy, options)) ?? `${policy.policy}\nRevision: ${policy.revision}\n`);
}

async function deletePolicy(context: Context, labels: readonly string[], options: DeleteOptions): Promise<void> {
  if (labels.length === 0 && options.all !== true) {
    throw new CiliumError('InvalidArgument', 'Please use --all flag to delete all policies');
  }
  if (labels.length > 0 && options.all === true) {
    throw new CiliumError('InvalidArgument', 'give either labels or --all');
  }
  const brief = options.output === undefined;
  const policy = await context.client().deletePolicy(labels.map(selectText), { brief });
  const kept = policy['watched-files'] ?? [];
  if (kept.length > 0)
    context.warn(`Rules of ${kept.join(', ')} stay: the agent watches the files; change or remove them`);
  context.print((await formatted(policy, options)) ?? `Revision: ${policy.revision}\n`);
}

async function validatePolicy(context: Context, paths: readonly string[], options: { print?: boolean }): Promise<void> {
  const files = await readPolicyFiles(paths, () => context.io.stdin);
  const { checkPolicy } = await import('../policy-check.ts');
  const { needsProxy } = await import('../../policy/l7/redirect.ts');
  let content: PolicyContent;
  try {
    content = checkPolicy(files.sources, { l7: true });
  } catch (error) {
    throw new CiliumError('InvalidArgument', `Validation of policy has failed:\n${withPlaces(error, files).message}`);
  }
  if (content.rules.some(needsProxy)) {
    try {
      checkPolicy(files.sources, { l7: false });
    } catch (error) {
      const { message } = withPlaces(error, files);
      context.warn(`Warning: valid, but refused unless the agent is told otherwise:\n${message}`);
    }
  }
  if (options.print === true)
    context.print(
      `${JSON.stringify(
        files.documents.flatMap(({ items }) => items),
        undefined,
        2,
      )}\n`,
    );
  context.print('All policy elements are valid.\n');
}

async function waitForPolicy(context: Context, revision: number, options: WaitOptions): Promise<void> {
  let progress = '';
  const wait = waitForRevision(context.client(), revision, {
    sleepMs: options.sleepTime * 1000,
    failWaitMs: options.failWaitTime * 1000,
    maxWaitMs: options.maxWaitTime * 1000,
    onProgress(ready, total) {
      progress = `\rWaiting for endpoints to run policy revision ${revision}: ${ready}/${total}`;
      context.print(progress);
    },
  });
  await wait.finally(() => context.print(progress === '' ? '' : '\n'));
}

/** Without a source a label stands for that label of any source. */
function selectText(label: string): string {
  return formatLabel(parseSelectLabel(label));
}

function parseCount(text: string): number {
  if (/^(0|[1-9][0-9]{0,14})$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a whole number.');
}

function parseSeconds(text: string): number {
  if (/^[0-9]{1,6}(\.[0-9]+)?$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a number of seconds.');
}
