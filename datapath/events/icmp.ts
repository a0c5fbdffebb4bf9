// SPDX-License-Identifier: Apache-2.0

/** Names of ICMP and ICMPv6 messages as Cilium's monitor prints them: "EchoRequest", "DestinationUnreachable(Port)", "143(0)". */

/** A message's name, and its codes by number where the message has codes that mean something. */
type Message = readonly [name: string, codes?: readonly string[]];

const ICMPV4: Readonly<Record<number, Message>> = {
  0: ['EchoReply'],
  3: [
    'DestinationUnreachable',
    [
      'Net',
      'Host',
      'Protocol',
      'Port',
      'FragmentationNeeded',
      'SourceRoutingFailed',
      'NetUnknown',
      'HostUnknown',
      'SourceIsolated',
      'NetAdminProhibited',
      'HostAdminProhibited',
      'NetTOS',
      'HostTOS',
      'CommAdminProhibited',
      'HostPrecedence',
      'PrecedenceCutoff',
    ],
  ],
  4: ['SourceQuench'],
  5: ['Redirect', ['Network', 'Host', 'TOS+Network', 'TOS+Host']],
  8: ['EchoRequest'],
  9: ['RouterAdvertisement'],
  10: ['RouterSolicitation'],
  11: ['TimeExceeded', ['TTLExceeded', 'FragmentReassemblyTimeExceeded']],
  12: ['ParameterProblem', ['PointerIndicatesError', 'MissingOption', 'BadLength']],
  13: ['TimestampRequest'],
  14: ['TimestampReply'],
  15: ['InfoRequest'],
  16: ['InfoReply'],
  17: ['AddressMaskRequest'],
  18: ['AddressMaskReply'],
};

const ICMPV6: Readonly<Record<number, Message>> = {
  1: [
    'DestinationUnreachable',
    [
      'NoRouteToDst',
      'AdminProhibited',
      'BeyondScopeOfSrc',
      'AddressUnreachable',
      'PortUnreachable',
      'SrcAddressFailedPolicy',
      'RejectRouteToDst',
    ],
  ],
  2: ['PacketTooBig'],
  3: ['TimeExceeded', ['HopLimitExceeded', 'FragmentReassemblyTimeExceeded']],
  4: ['ParameterProblem', ['ErroneousHeader', 'UnrecognizedNextHeader', 'UnrecognizedIPv6Option']],
  128: ['EchoRequest'],
  129: ['EchoReply'],
  130: ['MLDv1MulticastListenerQueryMessage'],
  131: ['MLDv1MulticastListenerReportMessage'],
  132: ['MLDv1MulticastListenerDoneMessage'],
  133: ['RouterSolicitation'],
  134: ['RouterAdvertisement'],
  135: ['NeighborSolicitation'],
  136: ['NeighborAdvertisement'],
  137: ['Redirect'],
};

export function icmpTypeName(version: 4 | 6, type: number, code: number): string {
  const message = (version === 4 ? ICMPV4 : ICMPV6)[type];
  if (message === undefined) return `${type}(${code})`;
  const [name, codes] = message;
  const codeName = codes?.[code];
  if (codeName !== undefined) return `${name}(${codeName})`;
  return codes === undefined && code === 0 ? name : `${name}(Code: ${code})`;
}
