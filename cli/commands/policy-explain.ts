// SPDX-License-Identifier: Apache-2.0

/** `cilium policy explain`: why a flow passes or not, and what would allow it. */
import type { FlowExplanationModel, FlowQuestion } from '../../api/explain-models.ts';
import { CiliumError } from '../../errors/cilium-error.ts';
import { ICMP_TYPES } from '../../policy/parse/icmp-types.ts';
import type { Context } from '../context.ts';
import { explanationText, nobodyTexts, suggestionNotes, verdictText } from '../output/explanation-text.ts';
import { formatted, type OutputOptions } from '../output/print.ts';

export interface ExplainOptions extends OutputOptions {
  readonly dport?: string;
  readonly icmp?: string;
  readonly icmpv6?: string;
  readonly suggest?: boolean;
}

export async function explainFlow(context: Context, from: string, to: string, options: ExplainOptions): Promise<void> {
  const explanation = await context.client().explainFlow({ from, to, ...packetOf(options) });
  if (options.suggest === true) {
    suggest(context, explanation);
    return;
  }
  const words = ['policy', 'explain', from, to, ...packetWords(options)];
  context.print(
    (await formatted(explanation, options)) ?? explanationText(explanation, words.map(shellWord).join(' ')),
  );
}

/** On standard output only what `policy import` is to read. */
function suggest(context: Context, explanation: FlowExplanationModel): void {
  const { suggestion } = explanation;
  if (suggestion === undefined) {
    context.warn(`Nothing to import: ${reason(explanation)}.`);
    return;
  }
  for (const note of suggestionNotes(suggestion)) context.warn(note);
  if (suggestion.rules.length > 0) context.print(`${JSON.stringify(suggestion.rules, undefined, 2)}\n`);
}

function reason(explanation: FlowExplanationModel): string {
  const { verdict, egress, ingress } = explanation;
  const [nobody] = nobodyTexts(explanation);
  if (nobody !== undefined) return nobody;
  if (egress.decidedBy ?? ingress.decidedBy) return verdictText(explanation);
  return `the flow is ${verdict === 'redirect' ? 'sent to a proxy' : 'allowed'}`;
}

type AskedPacket = Pick<FlowQuestion, 'protocol' | 'port'>;

function packetOf({ dport, icmp, icmpv6 }: ExplainOptions): AskedPacket {
  const given = [dport, icmp, icmpv6].filter((value) => value !== undefined);
  if (given.length > 1) throw new CiliumError('InvalidArgument', 'give one of --dport, --icmp and --icmpv6');
  if (icmp !== undefined) return { protocol: 'ICMP', port: icmpType(icmp, 4) };
  if (icmpv6 !== undefined) return { protocol: 'ICMPv6', port: icmpType(icmpv6, 6) };
  if (dport === undefined) return {};
  const [, port, protocol = 'tcp'] = /^([0-9]{1,5})(?:\/(tcp|udp|sctp))?$/i.exec(dport) ?? [];
  if (port === undefined || Number(port) > 65_535) {
    throw new CiliumError('InvalidArgument', `--dport "${dport}": expected PORT[/tcp|udp|sctp], as in 80/tcp`);
  }
  return { protocol: protocol.toUpperCase() as 'TCP' | 'UDP' | 'SCTP', port: Number(port) };
}

/** A number, or a name that rules may use. */
function icmpType(text: string, family: 4 | 6): number {
  const type = /^[0-9]{1,3}$/.test(text) ? Number(text) : ICMP_TYPES[family].get(text);
  if (type !== undefined && type <= 255) return type;
  throw new CiliumError(
    'InvalidArgument',
    `"${text}" is no ICMP type: expected a number up to 255 or such as EchoRequest`,
  );
}

function packetWords({ dport, icmp, icmpv6 }: ExplainOptions): string[] {
  if (dport !== undefined) return ['--dport', dport];
  if (icmp !== undefined) return ['--icmp', icmp];
  return icmpv6 === undefined ? [] : ['--icmpv6', icmpv6];
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
