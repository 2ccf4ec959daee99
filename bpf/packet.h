/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * From a frame to the few facts that a verdict needs. Every read goes through bpf_skb_load_bytes,
 * which checks bounds and copes with data outside the linear part; a header that is not whole, or
 * that this code cannot walk, is malformed, and malformed is dropped.
 *
 * A packet ends where its IP header says. The receiver cuts off what a frame holds beyond (Linux:
 * ip_rcv_core, ip6_rcv_core), so that ports there would be nobody's: a first fragment of extension
 * headers only could show allowed ones, and its next fragment bring others.
 */
#ifndef TABARD_PACKET_H
#define TABARD_PACKET_H

#include <linux/if_ether.h>
#include "maps.h"

#define IP_FRAGMENT_OFFSET 0x1fff
#define IP_MORE_FRAGMENTS 0x2000

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Extension headers in one packet; real ones carry two at most (RFC 8200 4.1 names six). */
#define EXTENSION_HEADERS_MAX 6

enum protocol {
	PROTO_HOP_BY_HOP = 0,
	PROTO_ICMP = 1,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_AUTHENTICATION = 51,
	PROTO_ICMPV6 = 58,
	PROTO_NO_NEXT = 59,
	PROTO_DESTINATION = 60,
	PROTO_SCTP = 132,
};

enum icmp_type {
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER = 12,
	ICMPV6_ERROR_MIN = 1, /* unreachable, too big, time exceeded, parameter problem */
	ICMPV6_ERROR_MAX = 4,
	ICMPV6_ECHO = 128,
	ICMPV6_ECHO_REPLY = 129,
	ICMPV6_NEIGHBOUR_MIN = 133, /* router and neighbour solicitation, advertisement, redirect */
	ICMPV6_NEIGHBOUR_MAX = 137,
};

/* What conntrack can make of a packet. */
enum kind {
	KIND_FLOW,      /* opens or continues a flow, or answers one */
	KIND_ANSWER,    /* can only answer one (ICMP echo reply) */
	KIND_SINGLE,    /* stands alone (ICMP that neither asks nor answers) */
	KIND_ERROR,     /* ICMP error about a packet of some flow */
	KIND_NEIGHBOUR, /* IPv6 neighbour discovery from this very link */
	KIND_FRAGMENT,  /* not the first fragment: its ports are in the first */
};

struct packet {
	union address source;
	union address destination;
	__u32 payload; /* offset of the transport header */
	__u32 end;     /* offset of what is not the packet's any more */
	__u32 fragment_id;
	__be16 source_port; /* ICMP echo: see parse_icmp */
	__be16 destination_port;
	__be16 policy_port; /* what policies name: destination port, or ICMP type */
	__u8 ethertype_known;
	__u8 malformed;
	__u8 protocol;
	__u8 kind;
	__u8 tcp_flags;
	__u8 first_fragment;
	__u8 is_fragment;
	__u8 is_ipv6;
	__u8 padding[2];
};

static __always_inline int is_to_tunnel_port(const struct settings *settings, const struct packet *p)
{
	return p->protocol == PROTO_UDP && p->destination_port == settings->tunnel_port;
}

/* Whether it is the tunnel's between this node and the one at `other`. */
static __always_inline int is_tunnel(const struct settings *settings, const struct packet *p,
				     const union address *other)
{
	return settings->mode == OVERLAY && p->kind == KIND_FLOW && is_to_tunnel_port(settings, p) &&
	       map_find(nodes, other);
}

/*
 * A parsed packet lives in a per-CPU map, not on the stack: the verifier knows nothing of what maps
 * hold, so that it checks what follows once, and not once for each way through the parser. Nothing
 * else uses the slots meanwhile: tcx programs run with softirqs off, and a redirect happens after
 * its program has ended.
 */
SHAPE(scratch, __u32, struct packet);

enum scratch_slot { SCRATCH_PACKET = 0, SCRATCH_QUOTED = 1 };

static __always_inline struct packet *scratch(__u32 slot)
{
	struct packet *p = map_find(scratch, &slot);

	if (p)
		*p = (struct packet){};
	return p;
}

/* Makes the compiler read a packet anew, instead of what it knows that the parser wrote. */
#define forget_parser() asm volatile("" ::: "memory")

struct ipv4_header {
	__u8 version_length;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__be32 source;
	__be32 destination;
};
_Static_assert(sizeof(struct ipv4_header) == 20, "RFC 791 3.1");

struct ipv6_header {
	__be32 version_class_flow;
	__be16 payload_length;
	__u8 next;
	__u8 hop_limit;
	union address source;
	union address destination;
};
_Static_assert(sizeof(struct ipv6_header) == 40, "RFC 8200 3");

static __always_inline void map_ipv4(union address *to, __be32 from)
{
	to->words[0] = 0;
	to->words[1] = 0;
	to->words[2] = bpf_htonl(0xffff);
	to->words[3] = from;
}

static __always_inline int is_mapped_ipv4(const union address *a)
{
	return !a->words[0] && !a->words[1] && a->words[2] == bpf_htonl(0xffff);
}

static __always_inline int is_unset(const union address *a)
{
	return !(a->words[0] | a->words[1] | a->words[2] | a->words[3]);
}

static __always_inline int same_address(const union address *a, const union address *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] &&
	       a->words[2] == b->words[2] && a->words[3] == b->words[3];
}

static __always_inline int is_link_local(const union address *a)
{
	return (a->words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* ff02::/16: reaches nothing beyond the link. */
static __always_inline int is_link_multicast(const union address *a)
{
	return (a->words[0] & bpf_htonl(0xffff0000)) == bpf_htonl(0xff020000);
}

/*
 * An echo's id stands in for the port that its sender chose, and the request's type for the port it
 * speaks to, so that an answer's tuple is its request's turned around, as with TCP and UDP.
 */
static __always_inline void parse_icmp(struct packet *p, __u8 type, __be16 id, __u8 hop_limit)
{
	int v6 = p->protocol == PROTO_ICMPV6;
	__be16 asked = bpf_htons(v6 ? ICMPV6_ECHO : ICMP_ECHO);

	p->policy_port = bpf_htons(type);
	p->source_port = 0;
	p->destination_port = p->policy_port;
	p->kind = KIND_SINGLE;
	if (p->policy_port == asked) {
		p->source_port = id;
		p->kind = KIND_FLOW;
	} else if (type == (v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY)) {
		p->source_port = asked;
		p->destination_port = id;
		p->kind = KIND_ANSWER;
	} else if (v6 && type >= ICMPV6_ERROR_MIN && type <= ICMPV6_ERROR_MAX) {
		p->kind = KIND_ERROR;
	} else if (!v6 && (type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED ||
			   type == ICMP_PARAMETER)) {
		p->kind = KIND_ERROR;
	} else if (v6 && type >= ICMPV6_NEIGHBOUR_MIN && type <= ICMPV6_NEIGHBOUR_MAX &&
		   hop_limit == 255 && !p->first_fragment) {
		/* 255 proves that no router forwarded it (RFC 4861 3.1); never fragmented (RFC 6980). */
		p->kind = KIND_NEIGHBOUR;
	}
}

/* Read a part of the packet, which must lie before its end. */
static __always_inline int load(struct __sk_buff *skb, const struct packet *p, __u32 at, void *to,
				__u32 size)
{
	return at + size > p->end || bpf_skb_load_bytes(skb, at, to, size);
}

/*
 * The transport header at p->payload. `quoted`: it is the head of a packet inside an ICMP error, of
 * which only 8 bytes are promised (RFC 792). Otherwise a header must be whole, so that no first
 * fragment is too small to carry what is judged (RFC 3128).
 */
static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *p, __u8 hop_limit,
					   int quoted)
{
	struct {
		__be16 source, destination;
		__be32 sequence, acknowledgement;
		__u8 offset, flags;
		__u8 rest[6];
	} head = {};
	_Static_assert(sizeof(head) == 20, "TCP's header, the longest (RFC 9293 3.1)");
	__be16 ports[4] = {};

	p->kind = KIND_FLOW;
	switch (p->protocol) {
	case PROTO_TCP:
		if (quoted) {
			if (load(skb, p, p->payload, ports, 8))
				return -1;
			head.source = ports[0];
			head.destination = ports[1];
		} else if (load(skb, p, p->payload, &head, 20)) {
			return -1;
		}
		p->tcp_flags = head.flags;
		p->source_port = head.source;
		p->destination_port = head.destination;
		p->policy_port = head.destination;
		return 0;
	case PROTO_UDP:
	case PROTO_SCTP: /* its common header has 12 bytes; the ports stand where UDP's do */
		if (load(skb, p, p->payload, ports, 8))
			return -1;
		p->source_port = ports[0];
		p->destination_port = ports[1];
		p->policy_port = ports[1];
		return 0;
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		if ((p->protocol == PROTO_ICMPV6) != p->is_ipv6)
			return 0; /* an odd protocol like any other, without ports or types */
		if (load(skb, p, p->payload, ports, 8))
			return -1;
		parse_icmp(p, bpf_ntohs(ports[0]) >> 8, ports[2], hop_limit);
		return 0;
	}
	return 0;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p, __u32 at, int quoted)
{
	struct ipv4_header ip;
	__u32 length;
	__u16 fragment;

	if (load(skb, p, at, &ip, sizeof(ip)))
		return -1;
	length = (ip.version_length & 0x0f) * 4;
	if (ip.version_length >> 4 != 4 || length < sizeof(ip))
		return -1;
	map_ipv4(&p->source, ip.source);
	map_ipv4(&p->destination, ip.destination);
	p->payload = at + length;
	if (!quoted && at + bpf_ntohs(ip.total_length) < p->end)
		p->end = at + bpf_ntohs(ip.total_length);
	if (p->payload > p->end)
		return -1;
	p->protocol = ip.protocol;
	fragment = bpf_ntohs(ip.fragment);
	if (fragment & (IP_FRAGMENT_OFFSET | IP_MORE_FRAGMENTS)) {
		p->fragment_id = bpf_ntohs(ip.id);
		p->is_fragment = 1;
		if (fragment & IP_FRAGMENT_OFFSET) {
			p->kind = KIND_FRAGMENT;
			return 0;
		}
		p->first_fragment = 1;
	}
	return parse_transport(skb, p, ip.ttl, quoted);
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *p, __u32 at, int quoted)
{
	struct ipv6_header ip;
	__u8 next, head[8];

	if (load(skb, p, at, &ip, sizeof(ip)))
		return -1;
	if ((ip.version_class_flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return -1;
	/* On the wire these are nobody's (RFC 4291 2.5.5.2); here they would pass for IPv4. */
	if (is_mapped_ipv4(&ip.source) || is_mapped_ipv4(&ip.destination))
		return -1;
	p->source = ip.source;
	p->destination = ip.destination;
	p->is_ipv6 = 1;
	next = ip.next;
	at += sizeof(ip);
	if (!quoted && at + bpf_ntohs(ip.payload_length) < p->end)
		p->end = at + bpf_ntohs(ip.payload_length);
#pragma unroll
	for (int i = 0; i <= EXTENSION_HEADERS_MAX; i++) {
		if (next != PROTO_HOP_BY_HOP && next != PROTO_ROUTING && next != PROTO_FRAGMENT &&
		    next != PROTO_AUTHENTICATION && next != PROTO_DESTINATION) {
			if (next == PROTO_NO_NEXT)
				return -1;
			p->protocol = next;
			p->payload = at;
			return parse_transport(skb, p, ip.hop_limit, quoted);
		}
		if (i == EXTENSION_HEADERS_MAX || load(skb, p, at, head, sizeof(head)))
			return -1;
		if (next == PROTO_ROUTING && head[3])
			return -1; /* segments left: its destination is not where it ends */
		if (next == PROTO_FRAGMENT) {
			__u16 fragment = head[2] << 8 | head[3];

			p->fragment_id = (__u32)head[4] << 24 | head[5] << 16 | head[6] << 8 | head[7];
			p->is_fragment = (fragment & 0xfff9) != 0;
			if (fragment & 0xfff8) {
				p->kind = KIND_FRAGMENT;
				p->protocol = 0;
				return 0;
			}
			p->first_fragment = fragment & 1;
		}
		at += next == PROTO_FRAGMENT	     ? 8
		      : next == PROTO_AUTHENTICATION ? (head[1] + 2) * 4
						     : (head[1] + 1) * 8;
		if (at > p->end)
			return -1;
		next = head[0];
	}
	return -1;
}

/* The frame's IP packet; other ethertypes leave ethertype_known 0. */
static __always_inline void parse(struct __sk_buff *skb, struct packet *p)
{
	p->ethertype_known = 1;
	p->end = skb->len;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		p->malformed = parse_ipv4(skb, p, ETH_HLEN, 0) != 0;
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		p->malformed = parse_ipv6(skb, p, ETH_HLEN, 0) != 0;
	else
		p->ethertype_known = 0;
	forget_parser();
}

/* The packet that an ICMP error quotes. */
static __always_inline void parse_quoted(struct __sk_buff *skb, const struct packet *error,
					 struct packet *p)
{
	__u32 at = error->payload + 8;

	p->end = error->end;
	if (error->is_ipv6)
		p->malformed = parse_ipv6(skb, p, at, 1) != 0;
	else
		p->malformed = parse_ipv4(skb, p, at, 1) != 0;
	forget_parser();
}

#endif
