/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* ARP between a pod and its own node (RFC 826); it never goes further. */
#ifndef TABARD_ARP_H
#define TABARD_ARP_H

#include "maps.h"
#include "packet.h"

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
};
_Static_assert(sizeof(struct arp) == 28, "ARP for IPv4 over Ethernet");

static __always_inline int same_mac(const __u8 *a, const __u8 *b)
{
	__u8 differs = 0;

	/* Not memcmp: it becomes a call, and there is nothing to call. */
#pragma unroll
	for (int i = 0; i < 6; i++)
		differs |= a[i] ^ b[i];
	return !differs;
}

/* Whether the pod's side of the exchange is an endpoint behind this interface. */
static __always_inline int arp_is_own(struct __sk_buff *skb, int from_pod)
{
	struct arp arp;
	union address address;
	struct endpoint *e;
	__be32 ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return 0;
	if (arp.protocol != bpf_htons(ETH_P_IP) || arp.protocol_length != 4 ||
	    arp.hardware_length != 6)
		return 0;
	__builtin_memcpy(&ip, from_pod ? arp.sender : arp.target, 4);
	map_ipv4(&address, ip);
	e = find_endpoint(&address);
	return e && e->ifindex == skb->ifindex &&
	       (!from_pod || same_mac(arp.sender_mac, e->mac));
}

#endif
