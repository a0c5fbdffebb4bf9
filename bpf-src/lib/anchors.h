/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Puts every ABI type into the object's BTF in full. Types that only inner maps or ring buffer records use would be
 * forward declarations there, or missing, and user space could not compare its layouts.
 */
#pragma once

#include "common.h"

struct abi_types {
	struct endpoint_key endpoint_key;
	struct endpoint_info endpoint_info;
	struct ipcache_key ipcache_key;
	struct ipcache_info ipcache_info;
	struct policy_key policy_key;
	struct policy_entry policy_entry;
	struct ct4_key ct4_key;
	struct ct6_key ct6_key;
	struct ct_entry ct_entry;
	struct snat4_key snat4_key;
	struct snat6_key snat6_key;
	struct snat4_entry snat4_entry;
	struct snat6_entry snat6_entry;
	struct device_info device_info;
	struct frag4_key frag4_key;
	struct frag6_key frag6_key;
	struct frag_ports frag_ports;
	struct metrics_value metrics_value;
	struct event_header event_header;
	struct drop_event drop_event;
	struct trace_event trace_event;
	struct policy_verdict_event policy_verdict_event;
	enum drop_reason drop_reason;
	enum trace_point trace_point;
	enum trace_reason trace_reason;
	enum policy_match policy_match;
};

/* In the section of the constants, so that it does not cost a map of its own. */
SEC(".rodata.config") const struct abi_types *volatile const abi_anchor;
