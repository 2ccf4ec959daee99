/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* How an identity travels: in the mark within a node, in the VXLAN header between nodes. */
#ifndef TABARD_OVERLAY_H
#define TABARD_OVERLAY_H

#include "events.h"
#include "maps.h"
#include "packet.h"

/*
 * skb->mark: the magic, then 24 bits of the sender's identity (0: unknown). A pod cannot set it: a
 * packet that crosses network namespaces loses its mark. During an update, old and new programs
 * pass packets to one another, so this never changes meaning.
 */
#define MARK_MAGIC 0xb7000000
#define MARK_MAGIC_MASK 0xff000000
#define MARK_IDENTITY_MASK 0x00ffffff

static __always_inline int is_marked(__u32 mark)
{
	return (mark & MARK_MAGIC_MASK) == MARK_MAGIC;
}

static __always_inline __u32 mark_of(__u32 identity)
{
	return MARK_MAGIC | (identity & MARK_IDENTITY_MASK);
}

/* Hand the packet to a local pod; its interface's to_pod judges it by the mark. */
static __always_inline int deliver(struct __sk_buff *skb, const struct endpoint *to, __u32 sender,
				   int direction)
{
	struct {
		__u8 destination[6], source[6];
	} macs;

	__builtin_memcpy(macs.destination, to->mac, 6);
	__builtin_memcpy(macs.source, to->host_mac, 6);
	if (bpf_skb_store_bytes(skb, 0, &macs, sizeof(macs), 0))
		return fail(direction);
	skb->mark = mark_of(sender);
	return bpf_redirect(to->ifindex, 0);
}

/* Send the packet to the node that holds the pod, with the sender's identity as the VNI. */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct prefix *to,
				       __u32 ifindex, __u32 sender)
{
	struct bpf_tunnel_key key = {.tunnel_id = sender, .tunnel_ttl = 64};
	__u64 flags;

	if (is_mapped_ipv4(&to->tunnel)) {
		key.remote_ipv4 = bpf_ntohl(to->tunnel.words[3]);
		/* As VXLAN does by default over IPv4 (RFC 7348 5): the inner packet has its own. */
		flags = BPF_F_ZERO_CSUM_TX;
	} else {
		__builtin_memcpy(key.remote_ipv6, to->tunnel.words, sizeof(key.remote_ipv6));
		flags = BPF_F_TUNINFO_IPV6;
	}
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags))
		return fail(EGRESS);
	skb->mark = 0; /* the outer packet is the host's own: no routing rule shall match ours */
	return bpf_redirect(ifindex, 0);
}

/* The outer source and the identity of a packet from the tunnel. */
static __always_inline int decapsulated(struct __sk_buff *skb, union address *node, __u32 *sender)
{
	struct bpf_tunnel_key key = {};

	if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0)) {
		map_ipv4(node, bpf_htonl(key.remote_ipv4));
	} else if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6)) {
		__builtin_memcpy(node->words, key.remote_ipv6, sizeof(node->words));
	} else {
		return -1;
	}
	/*
	 * No other node speaks for this one: `host` from the wire would pass all ingress policy.
	 * Numbers of the CIDR scope do not fit in a VNI.
	 */
	*sender = key.tunnel_id & MARK_IDENTITY_MASK;
	if (*sender == IDENTITY_HOST)
		*sender = IDENTITY_UNKNOWN;
	return 0;
}

#endif
