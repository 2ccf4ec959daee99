/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The agent's writes to entries that packets are reading: run by BPF_PROG_TEST_RUN, attached nowhere.
 *
 * bpf(2) replaces a hash map's entry by another and hands the old one's memory to the next entry that
 * is written, on the spot: a packet that has just found the old one would go on with what is some
 * other address's, or pass it by and find none. So an entry that is there is changed in place, by one
 * store.
 *
 * The frame is an Ethernet header, the key and the value, as layout.py packs them.
 */
#ifndef TABARD_REPLACE_H
#define TABARD_REPLACE_H

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include "maps.h"

static __always_inline int replace_host_in_place(struct __sk_buff *skb)
{
	struct {
		union address address;
		__u32 identity;
	} wanted;
	__u32 *identity;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &wanted, sizeof(wanted)))
		return TC_ACT_SHOT;
	identity = map_find(hosts, &wanted.address);
	if (!identity)
		return TC_ACT_SHOT;
	*(volatile __u32 *)identity = wanted.identity;
	return TC_ACT_OK;
}

/* The side that does not count is filled first. Before, the agent let packets end that may read it. */
static __always_inline int replace_endpoint_in_place(struct __sk_buff *skb)
{
	struct {
		union address address;
		struct endpoint endpoint;
	} wanted;
	struct endpoint_entry *entry;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &wanted, sizeof(wanted)))
		return TC_ACT_SHOT;
	entry = map_find(endpoints, &wanted.address);
	if (!entry)
		return TC_ACT_SHOT;
	entry->sides[(entry->current & 1) ^ 1] = wanted.endpoint;
	__sync_fetch_and_add(&entry->current, 1); /* which also orders the two */
	return TC_ACT_OK;
}

#endif
