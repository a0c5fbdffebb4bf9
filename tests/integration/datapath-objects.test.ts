// SPDX-License-Identifier: Apache-2.0

/** What the loader does with objects that are not as they should be: compiled here, refused by name and reason. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isCiliumError, type CiliumError } from '../../errors/cilium-error.ts';
import { openHandles } from '../../datapath/ffi/handle.ts';
import { adoptOrLoad, pinFolders } from '../../datapath/loader/adoption.ts';
import { loadObject, type LoadRequest } from '../../datapath/loader/object-loader.ts';
import { silentLogger } from '../../runtime/logger.ts';
import { inNamespace, run } from '../bpf/support/namespace.ts';

const SOURCE_LIB = fileURLToPath(new URL('../../bpf-src/lib', import.meta.url));

/** A program with a map and a constant; PROGRAM and EXTRA are filled in. */
const TEMPLATE = `
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
EXTRA
char test_license[] SEC("license") = "Dual BSD/GPL";
SEC(".rodata.config") volatile const __u32 config_answer;
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 8);
} cilium_test SEC(".maps");
SEC("tc") int cil_test(struct __sk_buff *skb)
{
	__u32 key = skb->len;
	__u64 *value = bpf_map_lookup_elem(&cilium_test, &key);
	PROGRAM
}
`;

inNamespace(fileURLToPath(import.meta.url), () => {
  const folder = mkdtempSync(join(tmpdir(), 'cilium-objects-'));
  const bpfRoot = join(folder, 'bpf');
  mkdirSync(bpfRoot);
  run('mount', '-t', 'bpf', 'bpf', bpfRoot);
  const folders = pinFolders(bpfRoot);
  after(() => {
    run('umount', bpfRoot);
    rmSync(folder, { recursive: true });
    assert.deepEqual(openHandles(), {});
  });

  let objects = 0;
  function build(program: string, extra = '', ...options: string[]): string {
    const path = join(folder, `bpf_test${objects++}`);
    writeFileSync(`${path}.c`, TEMPLATE.replace('PROGRAM', program).replace('EXTRA', extra));
    const include = [`-I/usr/include/${run('uname', '-m').trim()}-linux-gnu`, `-I${SOURCE_LIB}`];
    const flags = options.length > 0 ? options : ['-g'];
    run('clang', '-O2', ...flags, '-target', 'bpf', '-mcpu=v3', ...include, '-c', `${path}.c`, '-o', `${path}.o`);
    return `${path}.o`;
  }

  function request(objectPath: string, rest: Partial<LoadRequest> = {}): LoadRequest {
    return { objectPath, ...folders, config: { answer: 42 }, mapSizes: {}, log: silentLogger, ...rest };
  }

  function refusal(objectPath: string, rest: Partial<LoadRequest> = {}): CiliumError {
    try {
      for (const program of loadObject(request(objectPath, rest)).values()) program.close();
    } catch (error) {
      assert.ok(isCiliumError(error), String(error));
      assert.deepEqual(openHandles(), {});
      return error;
    }
    throw new Error(`${objectPath} was loaded`);
  }

  test('privileged: constants reach the program, and only what it does with the packet comes back', () => {
    const programs = loadObject(request(build('return value ? 0 : config_answer;')));
    const program = programs.get('cil_test')!;
    const packet = Buffer.alloc(64, 7);
    const { retval, data } = program.testRun({ packet });
    assert.equal(retval, 42);
    assert.deepEqual(data, packet);
    assert.equal(program.info().name, 'cil_test');
    program.close();
  });

  test("privileged: a program that the verifier refuses fails with the verifier's reason in one line", () => {
    const error = refusal(build('return *value;'));
    assert.match(error.message, /^load .*\.o \(.*invalid mem access 'map_value_or_null'.*\): EACCES$/);
    assert.match(String(error.details['log']), /BEGIN PROG LOAD LOG/);
  });

  test('privileged: a structure that differs from the codec is refused before anything is loaded', () => {
    const other = 'struct device_info { __u32 flags; __u8 ipv6[16]; __u8 ipv4[4]; } device_info_anchor;';
    const error = refusal(build('return value ? 0 : 1;', other));
    assert.equal(error.code, 'Precondition');
    const reason = 'device_info.ipv6 is at 4 in C, 8 here';
    assert.ok(
      error.message.endsWith(`was built for another agent (${reason}); rebuild with "make build"`),
      error.message,
    );
  });

  test('privileged: a constant that the agent does not know, or an object without types, is refused', () => {
    const object = build('return config_answer;');
    assert.match(refusal(object, { config: {} }).message, /wants a value for config_answer$/);
    assert.match(refusal(object, { config: { answer: 2 ** 32 } }).message, /of 4 bytes cannot hold/);
    assert.match(refusal(build('return 0;', '', '-g0')).message, /no \.BTF section/);
    writeFileSync(join(folder, 'empty.o'), '');
    assert.match(refusal(join(folder, 'empty.o')).message, /not a 64-bit little-endian ELF file/);
  });

  test('privileged: programs are adopted only while object, settings and pinned maps are the same', () => {
    const objectPath = build('return value ? 1 : config_answer;');
    const id = (rest: Partial<LoadRequest> = {}): number => {
      const programs = adoptOrLoad({ ...request(objectPath, rest), ...folders, programNames: ['cil_test'] });
      const program = programs.get('cil_test')!;
      const info = program.info();
      program.close();
      return info.id;
    };
    const first = id();
    assert.equal(id(), first);
    const other = id({ config: { answer: 43 } });
    assert.notEqual(other, first);
    assert.equal(id({ config: { answer: 43 } }), other);
    rmSync(`${folders.mapDir}/cilium_test`);
    const again = id({ config: { answer: 43 } });
    assert.notEqual(again, other, 'its map is not the pinned one any more');
    rmSync(`${folders.programDir}/cil_test`);
    assert.notEqual(id({ config: { answer: 43 } }), again, 'its pin is gone');
  });
});
