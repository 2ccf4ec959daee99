/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The verdict on one packet of an endpoint: conntrack first, the policy for what it does not know. */
#ifndef TABARD_ENFORCE_H
#define TABARD_ENFORCE_H

#include "conntrack.h"
#include "events.h"
#include "packet.h"
#include "verdict.h"

/* The DNS proxy reads whole UDP packets. */
static __always_inline int can_divert(const struct packet *p)
{
	return p->protocol == PROTO_UDP && !p->is_fragment;
}

/* As `enforce`, whatever an ICMP error quotes. */
static __always_inline int enforce_packet(const struct packet *p, const struct endpoint *e,
					  int direction, __u32 peer, int proxied)
{
	struct traffic t = {
		.peer_address = direction == EGRESS ? &p->destination : &p->source,
		.peer = peer,
		.port = p->policy_port,
		.protocol = p->protocol,
		.direction = direction,
	};
	__u64 now = bpf_ktime_get_coarse_ns(); /* a tick's resolution is enough, and cheaper */
	struct flow_key key;
	int is_open = 0;
	int reason;

	flow_key(&key, p, direction);
	if (p->kind == KIND_FRAGMENT) {
		reason = is_enforced(e, direction) ? DENIED_FRAGMENT : ALLOWED_NO_POLICY;
		goto evaluated;
	}
	reason = NO_FLOW;
	if (p->kind == KIND_FLOW || p->kind == KIND_ANSWER)
		reason = established(p, &key, e, peer, now, &is_open);
	if (reason == ALLOWED_PROXY && !proxied) {
		reason = can_divert(p) ? ALLOWED_PROXY : DENIED_PROXY;
		goto judged;
	}
	if (reason < REASON_DENIED) {
		count(direction, ALLOWED_ESTABLISHED);
		return ALLOWED_ESTABLISHED;
	}
	if (reason != NO_FLOW)
		goto judged;
	reason = evaluate(e, &t);
	if (reason == ALLOWED_PROXY && !can_divert(p))
		reason = DENIED_PROXY;
evaluated:
	if (reason < REASON_DENIED && !is_open && is_stale(e, direction, peer))
		reason = DENIED_STALE;
	/* Unenforced directions too: the answers may have to pass the enforced one. */
	if (p->kind == KIND_FLOW && reason < REASON_DENIED)
		open_flow(p, &key, e, peer, now, reason);
	if (reason == ALLOWED_PROXY && proxied)
		reason = ALLOWED_POLICY;
judged:
	count(direction, reason);
	tell(p, direction, reason, e->identity, peer);
	return reason;
}

/*
 * `peer`: the other side's identity; `proxied`: the DNS proxy lets the packet go on. Counts, tells,
 * and returns the reason: ALLOWED_PROXY if the packet has to go to the proxy first.
 */
static __always_inline int enforce(struct __sk_buff *skb, const struct packet *p,
				   const struct endpoint *e, int direction, __u32 peer, int proxied)
{
	if (p->kind == KIND_ERROR &&
	    relates_to_flow(skb, p, e, direction, peer, bpf_ktime_get_coarse_ns())) {
		count(direction, ALLOWED_RELATED);
		return ALLOWED_RELATED;
	}
	return enforce_packet(p, e, direction, peer, proxied);
}

#endif
