/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Programs for measuring others by BPF_PROG_TEST_RUN, which repeats one and the same frame: `drive`
 * puts the next of many addresses, and a port, into the frame and then calls the program in question.
 */
#include <linux/pkt_cls.h>
#include "maps.h"
#include "packet.h"

struct plan {
	__u32 at; /* next index */
	__u32 count;
	__u32 address_offset;
	__u32 port_offset; /* 0: leave the port */
};

int drive(struct __sk_buff *skb)
{
	__u32 zero = 0, index;
	struct plan *plan = map_find(plan, &zero);
	__u32 *address;

	if (!plan || !plan->count)
		return TC_ACT_SHOT;
	index = plan->at++ % plan->count;
	address = map_find(addresses, &index);
	if (!address)
		return TC_ACT_SHOT;
	bpf_skb_store_bytes(skb, plan->address_offset, address, sizeof(*address), 0);
	if (plan->port_offset) {
		__u16 port = bpf_get_prandom_u32() | 0x80; /* in network order: at least 32768 */

		bpf_skb_store_bytes(skb, plan->port_offset, &port, sizeof(port), 0);
	}
	bpf_tail_call_((__u64)MAP(programs), skb, 0);
	return TC_ACT_SHOT;
}

int parse_alone(struct __sk_buff *skb)
{
	struct packet *p = scratch(SCRATCH_PACKET);

	if (!p)
		return TC_ACT_SHOT;
	parse(skb, p);
	return p->malformed ? TC_ACT_SHOT : TC_ACT_OK;
}

int look_up(struct __sk_buff *skb)
{
	union address source = {.words = {0, 0, bpf_htonl(0xffff), 0}};

	if (bpf_skb_load_bytes(skb, 14 + 12, &source.words[3], 4))
		return TC_ACT_SHOT;
	return map_find(hosts, &source) ? TC_ACT_OK : TC_ACT_SHOT;
}

int empty(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}
