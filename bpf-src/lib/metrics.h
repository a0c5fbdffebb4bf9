/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters that need no reader. */
#pragma once

#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct metrics_value);
	__uint(max_entries, METRICS_ENTRIES);
} cilium_metrics SEC(".maps");

static __always_inline void count(__u32 reason, __u32 direction, __u32 bytes)
{
	__u32 index = reason * 4 + direction;
	struct metrics_value *value = bpf_map_lookup_elem(&cilium_metrics, &index);

	if (likely(value)) {
		value->count++;
		value->bytes += bytes;
	}
}
