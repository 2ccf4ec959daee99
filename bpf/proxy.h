/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * DNS goes through the node's proxy, which the agent is: a packet is sent out of a TAP device that
 * the agent reads, and comes back by it (a query made anew), to go on where it was taken from. While
 * no agent reads there is no device, and the packet is dropped.
 *
 * On the way the frame's MAC addresses, which mean nothing there, say where it was taken from.
 */
#ifndef TABARD_PROXY_H
#define TABARD_PROXY_H

#include "events.h"
#include "maps.h"

/* skb->mark of what the proxy lets go on. See overlay.h for why no pod can set it. */
#define MARK_PROXIED 0xb8000000

/* A locally administered address; its last byte is the direction. */
struct diverted {
	__u8 to[6];
	__u8 from[6];
};
#define DIVERTED {0x02, 't', 'a', 'b', 0, 0}

static __always_inline int divert(struct __sk_buff *skb, __u32 proxy_ifindex, int direction)
{
	struct diverted macs = {.to = DIVERTED, .from = DIVERTED};

	macs.to[5] = direction;
	if (bpf_skb_store_bytes(skb, 0, &macs, sizeof(macs), 0))
		return fail(direction);
	skb->mark = 0;
	return bpf_redirect(proxy_ifindex, 0);
}

/* Where the agent says that it was taken from; -1 if it says nothing. */
static __always_inline int diverted_from(struct __sk_buff *skb)
{
	struct diverted macs;

	if (bpf_skb_load_bytes(skb, 0, &macs, sizeof(macs)) || macs.to[1] != 't' ||
	    macs.to[2] != 'a' || macs.to[3] != 'b' || macs.to[5] > EGRESS)
		return -1;
	return macs.to[5];
}

/* Back to the pod's interface: what it sent enters from_pod again, what it is sent to_pod. */
static __always_inline int resume(struct __sk_buff *skb, const struct endpoint *pod, int direction)
{
	struct diverted macs;

	__builtin_memcpy(macs.to, direction == EGRESS ? pod->host_mac : pod->mac, 6);
	__builtin_memcpy(macs.from, direction == EGRESS ? pod->mac : pod->host_mac, 6);
	if (bpf_skb_store_bytes(skb, 0, &macs, sizeof(macs), 0))
		return fail(direction);
	skb->mark = MARK_PROXIED;
	return bpf_redirect(pod->ifindex, direction == EGRESS ? BPF_F_INGRESS : 0);
}

#endif
