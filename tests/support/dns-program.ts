// SPDX-License-Identifier: Apache-2.0

/**
 * A DNS server and a client, as programs for namespaces of a lab:
 *
 *   serve ADDRESS               knows www.test, and big.test, which fits TCP only; all else does not exist
 *   ask SERVER TRANSPORT TYPE NAME …   a line for each name: the response code and the records, or "silence"
 */
import { decode, encode, type Packet } from 'dns-packet';
import { createServer } from 'node:net';
import { createSocket } from 'node:dgram';
import { askTcp, askUdp } from '../../dns/fake/fake-upstream.ts';
import { queryBytes } from '../../dns/fake/queries.ts';
import { StreamReader, streamed } from '../../dns/stream.ts';

const PORT = 53;
const SILENCE_MS = 4_000;
const BIG_ANSWERS = 60;
const FLAG_TRUNCATED = 0x0200;
const NX_DOMAIN = 3;

function answer(bytes: Buffer, transport: 'udp' | 'tcp'): Buffer {
  const { id = 0, questions = [] } = decode(bytes);
  const [{ name, type } = { name: '', type: 'A' }] = questions;
  const sizes: Readonly<Record<string, number>> = { 'www.test': 1, 'big.test': BIG_ANSWERS };
  const size = sizes[name.toLowerCase()];
  const isCut = size === BIG_ANSWERS && transport === 'udp';
  const count = type === 'A' && !isCut ? (size ?? 0) : 0;
  const reply: Packet = {
    type: 'response',
    id,
    flags: 0x0180 | (isCut ? FLAG_TRUNCATED : 0) | (size === undefined ? NX_DOMAIN : 0),
    questions,
    answers: Array.from({ length: count }, (_unused, index) => ({
      type: 'A',
      name,
      ttl: 60,
      data: `203.0.113.${index + 1}`,
    })),
  };
  return encode(reply);
}

function serve(address: string): void {
  const udp = createSocket('udp4');
  udp.on('message', (bytes, { address: source, port }) => udp.send(answer(bytes, 'udp'), port, source));
  udp.bind(PORT, address);
  createServer((socket) => {
    const reader = new StreamReader();
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      for (const message of reader.push(chunk)) socket.write(streamed(answer(message, 'tcp')));
    });
  }).listen(PORT, address);
}

async function ask(server: string, name: string, type: string, transport: string): Promise<string> {
  const query = queryBytes(name, { type: type as 'A' });
  const bytes =
    transport === 'tcp'
      ? (await askTcp([query], PORT, server))[0]!
      : await askUdp(query, PORT, server, AbortSignal.timeout(SILENCE_MS));
  const packet = decode(bytes) as ReturnType<typeof decode> & { rcode: string; flag_tc: boolean };
  const records = (packet.answers ?? []).map((record) =>
    'data' in record ? `${record.type} ${record.data as string}` : '',
  );
  return [packet.rcode, ...(packet.flag_tc ? ['cut'] : []), ...records.sort()].join(' ');
}

const [command, place = '', transport = '', type = '', ...names] = process.argv.slice(2);
if (command === 'serve') serve(place);
for (const name of names) {
  const text = await ask(place, name, type, transport).catch((error: unknown) => {
    if (error instanceof Error && error.name === 'AbortError') return 'silence';
    throw error;
  });
  process.stdout.write(`${text}\n`);
}
