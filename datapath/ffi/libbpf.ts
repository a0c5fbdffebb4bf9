// SPDX-License-Identifier: Apache-2.0

/**
 * libbpf's functions, declared once. The classes of this folder give them a shape; nothing else calls them.
 *
 * libbpf 1.x returns a negative errno, so results of asynchronous calls can be told too (errno itself belongs to the
 * thread that called). Structures cross as buffers written here by hand, in the layout of libbpf 1.1's headers.
 */
import koffi from 'koffi';
import { SyscallError } from './errno.ts';
import { openLibrary, type Native, type Pointer } from './native.ts';

const library = openLibrary('libbpf.so.1', 'install libbpf 1.1 or newer (Debian: apt install libbpf1)');
const { declare } = library;
const libc = openLibrary('libc.so.6', 'this program needs glibc');

const TestRunOptions = koffi.struct('bpf_test_run_opts', {
  sz: 'size_t',
  data_in: 'const void *',
  data_out: 'void *',
  data_size_in: 'uint32_t',
  data_size_out: 'uint32_t',
  ctx_in: 'const void *',
  ctx_out: 'void *',
  ctx_size_in: 'uint32_t',
  ctx_size_out: 'uint32_t',
  retval: 'uint32_t',
  repeat: 'int',
  duration: 'uint32_t',
  flags: 'uint32_t',
  cpu: 'uint32_t',
  batch_size: 'uint32_t',
});

export const objectOpen = declare<[string, null], Pointer>(
  'void *bpf_object__open_file(const char *path, const void *opts)',
);
export const objectLoad = declare<[bigint], number>('int bpf_object__load(void *obj)');
export const objectClose = declare<[bigint], undefined>('void bpf_object__close(void *obj)');
export const objectNextMap = declare<[bigint, Pointer], Pointer>('void *bpf_object__next_map(void *obj, void *map)');
export const objectNextProgram = declare<[bigint, Pointer], Pointer>(
  'void *bpf_object__next_program(void *obj, void *prog)',
);
export const programName = declare<[bigint], string>('const char *bpf_program__name(void *prog)');
export const programFd = declare<[bigint], number>('int bpf_program__fd(void *prog)');
export const objectMapName = declare<[bigint], string>('const char *bpf_map__name(void *map)');
export const objectMapFd = declare<[bigint], number>('int bpf_map__fd(void *map)');
export const objectMapType = declare<[bigint], number>('int bpf_map__type(void *map)');
export const objectMapKeySize = declare<[bigint], number>('uint32_t bpf_map__key_size(void *map)');
export const objectMapValueSize = declare<[bigint], number>('uint32_t bpf_map__value_size(void *map)');
export const objectMapFlags = declare<[bigint], number>('uint32_t bpf_map__map_flags(void *map)');
export const objectMapMaxEntries = declare<[bigint], number>('uint32_t bpf_map__max_entries(void *map)');
export const objectMapSetMaxEntries = declare<[bigint, number], number>(
  'int bpf_map__set_max_entries(void *map, uint32_t n)',
);
export const objectMapSetPinPath = declare<[bigint, string], number>(
  'int bpf_map__set_pin_path(void *map, const char *path)',
);
export const objectMapIsInternal = declare<[bigint], boolean>('bool bpf_map__is_internal(void *map)');
export const objectMapInitialValue = declare<[bigint, [number]], Pointer>(
  'void *bpf_map__initial_value(void *map, _Out_ size_t *size)',
);

export const mapCreate = declare<[number, string, number, number, number, Uint8Array], number>(
  'int bpf_map_create(int type, const char *name, uint32_t key_size, uint32_t value_size, uint32_t max_entries, const void *opts)',
);
export const mapUpdate = declare<[number, Uint8Array, Uint8Array, number], number>(
  'int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags)',
);
export const mapLookup = declare<[number, Uint8Array, Uint8Array], number>(
  'int bpf_map_lookup_elem(int fd, const void *key, void *value)',
);
export const mapDelete = declare<[number, Uint8Array], number>('int bpf_map_delete_elem(int fd, const void *key)');
export const mapNextKey = declare<[number, Uint8Array | null, Uint8Array], number>(
  'int bpf_map_get_next_key(int fd, const void *key, void *next)',
);
export const mapUpdateBatch = declare<[number, Uint8Array, Uint8Array, Uint8Array, Uint8Array], number>(
  'int bpf_map_update_batch(int fd, const void *keys, const void *values, void *count, const void *opts)',
);
export const mapDeleteBatch = declare<[number, Uint8Array, Uint8Array, Uint8Array], number>(
  'int bpf_map_delete_batch(int fd, const void *keys, void *count, const void *opts)',
);
export const mapLookupBatch = declare<
  [number, Uint8Array | null, Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array],
  number
>(
  'int bpf_map_lookup_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values, void *count, const void *opts)',
);
export const mapFdById = declare<[number], number>('int bpf_map_get_fd_by_id(uint32_t id)');
export const objectPin = declare<[number, string], number>('int bpf_obj_pin(int fd, const char *path)');
export const objectGet = declare<[string], number>('int bpf_obj_get(const char *path)');
export const objectInfo = declare<[number, Uint8Array, [number]], number>(
  'int bpf_obj_get_info_by_fd(int fd, void *info, _Inout_ uint32_t *len)',
);
export const possibleCpus = declare<[], number>('int libbpf_num_possible_cpus(void)');
export const tcHookCreate = declare<[Uint8Array], number>('int bpf_tc_hook_create(void *hook)');
export const tcAttach = declare<[Uint8Array, Uint8Array], number>('int bpf_tc_attach(const void *hook, void *opts)');
export const tcDetach = declare<[Uint8Array, Uint8Array], number>(
  'int bpf_tc_detach(const void *hook, const void *opts)',
);
export const tcQuery = declare<[Uint8Array, Uint8Array], number>('int bpf_tc_query(const void *hook, void *opts)');
const testRun = library.handle.func('bpf_prog_test_run_opts', 'int', [
  'int',
  koffi.inout(koffi.pointer(TestRunOptions)),
]) as unknown as Native<[number, Record<string, unknown>], number>;

const PrintCallback = koffi.proto('int LibbpfPrint(int level, const char *format, void *args)');
const setPrint = library.handle.func('libbpf_set_print', 'void *', [koffi.pointer(PrintCallback)]) as unknown as Native<
  [bigint | null],
  Pointer
>;
const vsnprintf = libc.declare<[Uint8Array, number, string, bigint], number>(
  'int vsnprintf(void *buf, size_t size, const char *format, void *args)',
);

/** Longest piece of libbpf's log that is kept; the verifier's complaint stands at its end, so that is what is cut off last. */
const LOG_BYTES = 256 * 1024;
const LIBBPF_DEBUG = 2;

// What libbpf would write to stderr (a clsact qdisc that is there already, say) reaches callers as a return value.
setPrint(null);

/** Runs `body` and returns what libbpf and the verifier said meanwhile: warnings and informations, not debug lines. */
export function captureLog<T>(body: () => T): { result: T; log: string } {
  const buffer = Buffer.alloc(LOG_BYTES);
  const parts: string[] = [];
  // The va_list is handed on to vsnprintf as the pointer that it is in the ABIs of x86-64 and arm64.
  const callback = koffi.register((level: number, format: string, args: bigint) => {
    if (level >= LIBBPF_DEBUG) return 0;
    const length = vsnprintf(buffer, buffer.length, format, args);
    parts.push(buffer.toString('utf8', 0, Math.min(Math.max(length, 0), buffer.length - 1)));
    return 0;
  }, koffi.pointer(PrintCallback));
  setPrint(callback);
  try {
    const result = body();
    return { result, log: parts.join('') };
  } finally {
    setPrint(null);
    koffi.unregister(callback);
  }
}

/** `length` bytes of C's memory at `pointer`, not a copy. */
export function memoryAt(pointer: bigint, length: number): Uint8Array {
  return new Uint8Array(koffi.view(pointer, length));
}

/** Throws when a result of libbpf is negative; returns it otherwise. */
export function check(result: number, operation: string, details?: Record<string, unknown>): number {
  if (result < 0) throw new SyscallError(operation, -result, details);
  return result;
}

export interface TestRunResult {
  /** What the program returned: TC_ACT_*. */
  readonly retval: number;
  /** The packet as the program left it. */
  readonly data: Buffer;
  /** The context (struct __sk_buff) as the program left it; empty when none was given. */
  readonly context: Buffer;
  /** Mean time of one run. */
  readonly durationNs: number;
}

export interface TestRunInput {
  readonly packet: Uint8Array;
  /** struct __sk_buff, for instance to set ingress_ifindex or mark. */
  readonly context?: Uint8Array;
  readonly repeat?: number;
}

/** How much longer than its input a program may make a packet. */
const TEST_RUN_HEADROOM = 512;

/** BPF_PROG_TEST_RUN: runs the program `fd` on a packet without any device. */
export function progTestRun(fd: number, input: TestRunInput): TestRunResult {
  const data = Buffer.alloc(input.packet.length + TEST_RUN_HEADROOM);
  const context = Buffer.alloc(input.context?.length ?? 0);
  const options: Record<string, unknown> = {
    sz: koffi.sizeof(TestRunOptions),
    data_in: input.packet,
    data_out: data,
    data_size_in: input.packet.length,
    data_size_out: data.length,
    ctx_in: input.context ?? null,
    ctx_out: context.length > 0 ? context : null,
    ctx_size_in: context.length,
    ctx_size_out: context.length,
    retval: 0,
    repeat: input.repeat ?? 1,
    duration: 0,
    flags: 0,
    cpu: 0,
    batch_size: 0,
  };
  check(testRun(fd, options), 'run program', { fd, bytes: input.packet.length });
  return {
    retval: options['retval'] as number,
    data: data.subarray(0, options['data_size_out'] as number),
    context: context.subarray(0, options['ctx_size_out'] as number),
    durationNs: options['duration'] as number,
  };
}
