// SPDX-License-Identifier: Apache-2.0

/** `cilium completion bash|zsh|fish`: a script that completes commands and options, made from the commands themselves. */
import { Argument, type Command } from 'commander';
import type { Context } from '../context.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** The words that may follow each beginning of a command line, such as `endpoint list`. */
type Completions = readonly (readonly [begin: string, words: readonly string[]])[];

export function register(program: Command, context: Context): void {
  program
    .command('completion')
    .description('Print a script that completes commands: source <(cilium completion bash)')
    .addArgument(new Argument('[shell]', 'the shell that will read it').choices(SHELLS).default('bash'))
    .action((shell: (typeof SHELLS)[number]) => context.print(script(shell, completionsOf(program, ''))));
}

/** Sub-commands and long options of a command, and the same of all below it. */
function completionsOf(command: Command, begin: string): Completions {
  const names = command.commands.map((child) => child.name());
  const options = command.options.map((option) => option.long ?? option.short ?? '');
  const below = command.commands.flatMap((child) => completionsOf(child, `${begin} ${child.name()}`.trim()));
  return [[begin, [...names, ...options, '--help']], ...below];
}

function script(shell: (typeof SHELLS)[number], completions: Completions): string {
  if (shell === 'fish') return fishScript(completions);
  const prelude = shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : '';
  return `${prelude}${bashScript(completions)}`;
}

/** Words that begin with a dash are skipped; the rest names the command. */
function bashScript(completions: Completions): string {
  const cases = completions.map(([begin, words]) => `    "${begin}") words="${words.join(' ')}" ;;`);
  return `_cilium() {
  local words command="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ \${COMP_WORDS[i]} == -* ]] || command="\${command:+$command }\${COMP_WORDS[i]}"
  done
  case "$command" in
${cases.join('\n')}
    *) words="" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _cilium cilium
`;
}

function fishScript(completions: Completions): string {
  const lines = completions.map(([begin, words]) => {
    const condition = `test (string join " " (string match -v -- "-*" (commandline -opc)[2..])) = "${begin}"`;
    return `complete -c cilium -n '${condition}' -a '${words.join(' ')}'`;
  });
  return `${lines.join('\n')}\n`;
}
