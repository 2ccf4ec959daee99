/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Only a packet's first fragment has ports. They are kept until the others come; one whose first
 * fragment was not seen (or comes later) cannot be judged.
 */
#ifndef TABARD_FRAGMENTS_H
#define TABARD_FRAGMENTS_H

#include "maps.h"
#include "packet.h"

struct fragment_key {
	union address source;
	union address destination;
	__u32 id;
	__u32 protocol; /* part of an IPv4 packet's name (RFC 791 3.2), not of an IPv6 one's */
};

struct fragment {
	__be16 source_port;
	__be16 destination_port;
	__be16 policy_port;
	__u8 protocol;
	__u8 kind;
};
SHAPE(fragments, struct fragment_key, struct fragment);

static __always_inline void fragment_key(struct fragment_key *key, const struct packet *p)
{
	*key = (struct fragment_key){
		.source = p->source,
		.destination = p->destination,
		.id = p->fragment_id,
		.protocol = p->is_ipv6 ? 0 : p->protocol,
	};
}

/* Note a first fragment's ports, or find those of a later one: it then is of its packet's kind. */
static __always_inline void resolve_fragment(struct packet *p)
{
	struct fragment_key key;

	if (p->first_fragment) {
		struct fragment first = {
			.source_port = p->source_port,
			.destination_port = p->destination_port,
			.policy_port = p->policy_port,
			.protocol = p->protocol,
			/* What an error quotes is read from its first fragment only. */
			.kind = p->kind == KIND_ERROR ? KIND_SINGLE : p->kind,
		};

		fragment_key(&key, p);
		map_put(fragments, &key, &first);
	} else if (p->kind == KIND_FRAGMENT) {
		struct fragment *first;

		fragment_key(&key, p);
		first = map_find(fragments, &key);
		if (first) {
			p->source_port = first->source_port;
			p->destination_port = first->destination_port;
			p->policy_port = first->policy_port;
			p->protocol = first->protocol;
			p->kind = first->kind;
		}
	}
}

#endif
