/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Flows that were allowed, so that answers pass and established traffic skips the policy map.
 *
 * An entry never outlives the reasons it was made for. It carries the policy id (a content hash of
 * the rules that select the endpoint: its generation), whether the direction was enforced, the pod's
 * incarnation and the peer's identity, and is worth nothing where these differ from now:
 *  - packets of the flow are judged afresh;
 *  - answers have the flow's own direction judged afresh, and the entry is renewed or stays as it is.
 *    Otherwise a revoked rule would live on in the traffic that answers it.
 * The entry of a revoked or forgotten flow stays until it expires, so that its answers are known for what
 * they are and refused: taken for packets that open a flow the other way, they would let all others of it
 * pass as answers of theirs. Only a TCP connection that begins anew is judged by its own direction at once.
 * Where the maps are too old to open new flows by (is_stale), what was open goes on, judged afresh or not.
 * Under one policy id, what a peer may do never changes while packets carry its identity: whatever
 * changes it is another rule set, with another id. Entries under an id that is in use are added before
 * the identity that they are for is known, and removed when it has retired; a number that becomes
 * another's by then is no flow's peer, since the agent forgets those of a retired identity before it
 * reports the retirement.
 */
#ifndef TABARD_CONNTRACK_H
#define TABARD_CONNTRACK_H

#include "maps.h"
#include "packet.h"
#include "verdict.h"

/* Lifetimes without a packet, as Cilium's (bpf/node_config.h, CT_*). */
#define TIMEOUT_TCP (8000 * SECOND)
#define TIMEOUT_TCP_UNANSWERED (60 * SECOND)
#define TIMEOUT_TCP_CLOSED (10 * SECOND)
#define TIMEOUT_OTHER (60 * SECOND)

struct flow_key {
	union address source;
	union address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 direction; /* in which it was opened, seen from the endpoint */
	__u8 padding[2];
};

enum flow_flag {
	FLOW_ENFORCED = 1,
	FLOW_ANSWERED = 2,
	FLOW_RESET = 4,
	FLOW_FIN = 8,
	FLOW_ANSWER_FIN = 16,
	FLOW_PROXIED = 32, /* its packets and their answers go through the node's DNS proxy */
	FLOW_FORGOTTEN = 64, /* whom it was opened with is not known any more; set by the agent */
};

struct flow {
	__u64 policy;
	__u64 incarnation;
	__u64 seen; /* monotonic nanoseconds */
	__u32 peer;
	__u8 flags;
	__u8 padding[3];
};
SHAPE(conntrack, struct flow_key, struct flow);

static __always_inline void flow_key(struct flow_key *key, const struct packet *p, int direction)
{
	*key = (struct flow_key){
		.source = p->source,
		.destination = p->destination,
		.source_port = p->source_port,
		.destination_port = p->destination_port,
		.protocol = p->protocol,
		.direction = direction,
	};
}

/* The key of the flow that `p` answers; an answer leaves by the way that the flow did not come. */
static __always_inline void answered_key(struct flow_key *key, const struct packet *p,
					 int direction)
{
	*key = (struct flow_key){
		.source = p->destination,
		.destination = p->source,
		.source_port = p->destination_port,
		.destination_port = p->source_port,
		.protocol = p->protocol,
		.direction = direction == INGRESS ? EGRESS : INGRESS,
	};
}

static __always_inline int is_expired(const struct flow *f, __u8 protocol, __u64 now)
{
	__u64 timeout = TIMEOUT_OTHER;

	if (protocol == PROTO_TCP) {
		timeout = TIMEOUT_TCP;
		if (!(f->flags & FLOW_ANSWERED))
			timeout = TIMEOUT_TCP_UNANSWERED;
		if (f->flags & FLOW_RESET ||
		    (f->flags & (FLOW_FIN | FLOW_ANSWER_FIN)) == (FLOW_FIN | FLOW_ANSWER_FIN))
			timeout = TIMEOUT_TCP_CLOSED;
	}
	/* Signed: another CPU may have written a later time than ours. */
	return (__s64)(now - f->seen) > (__s64)timeout;
}

static __always_inline __u8 enforced_flag(const struct endpoint *e, int direction)
{
	return is_enforced(e, direction) ? FLOW_ENFORCED : 0;
}

static __always_inline __u8 proxied_flag(int reason)
{
	return reason == ALLOWED_PROXY ? FLOW_PROXIED : 0;
}

/* Of a packet that needs no judging. */
static __always_inline int established_reason(const struct flow *f)
{
	return f->flags & FLOW_PROXIED ? ALLOWED_PROXY : ALLOWED_ESTABLISHED;
}

/* Whether the reasons for the flow still hold. Who the peer is matters only to enforcement. */
static __always_inline int is_current(const struct flow *f, const struct endpoint *e, int direction,
				      __u32 peer)
{
	return f->policy == e->policy &&
	       (f->flags & (FLOW_ENFORCED | FLOW_FORGOTTEN)) == enforced_flag(e, direction) &&
	       (f->peer == peer || !(f->flags & FLOW_ENFORCED));
}

/* Whether `p` begins a connection, whatever was known on its ports. */
static __always_inline int is_first(const struct packet *p)
{
	return (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Note a packet. Writes only what changed, to leave the cache line alone for other CPUs. */
static __always_inline void touch(struct flow *f, const struct packet *p, int answer, __u64 now)
{
	__u8 flags = f->flags;

	if (answer)
		flags |= FLOW_ANSWERED;
	if (p->tcp_flags & TCP_RST)
		flags |= FLOW_RESET;
	if (p->tcp_flags & TCP_FIN)
		flags |= answer ? FLOW_ANSWER_FIN : FLOW_FIN;
	/* A new connection on the ports of a closed one. */
	if (!answer && is_first(p))
		flags &= FLOW_ENFORCED | FLOW_PROXIED;
	if (flags != f->flags)
		f->flags = flags;
	if ((__s64)(now - f->seen) > (__s64)SECOND)
		f->seen = now;
}

/* What `established` and `still` say of no flow that the endpoint has. */
#define NO_FLOW REASONS_MAX

/*
 * What an answer to the flow is allowed as; why the endpoint may not have the flow any more; or NO_FLOW,
 * also where `f` is none.
 * If its generation is another, its own direction is judged again, for the peer it was opened with (or is
 * now known to be `peer`).
 */
static __always_inline int still(struct flow *f, const struct flow_key *key, const struct endpoint *e,
				 __u32 peer, __u64 now)
{
	struct traffic t = {
		.peer_address = key->direction == EGRESS ? &key->destination : &key->source,
		.port = key->destination_port,
		.protocol = key->protocol,
		.direction = key->direction,
	};
	int reason;

	if (!f || f->incarnation != e->incarnation || is_expired(f, key->protocol, now))
		return NO_FLOW;
	t.peer = peer ? peer : f->peer;
	if (is_current(f, e, key->direction, t.peer))
		return established_reason(f);
	/* Who answers nobody knows whom would send on his own, which his own direction may forbid. */
	if (f->flags & FLOW_FORGOTTEN && !t.peer && (is_enforced(e, INGRESS) || is_enforced(e, EGRESS)))
		return DENIED_UNKNOWN_PEER;
	reason = evaluate(e, &t);
	if (reason >= REASON_DENIED)
		return reason;
	f->policy = e->policy;
	f->peer = t.peer;
	f->flags = (f->flags & ~(FLOW_ENFORCED | FLOW_PROXIED | FLOW_FORGOTTEN)) | proxied_flag(reason) |
		   enforced_flag(e, key->direction);
	return established_reason(f);
}

/*
 * As what `p` is allowed, which answers a flow or continues one; why not, if it answers one that is
 * revoked; NO_FLOW if it does neither. `peer`: the other side's identity, if it is known here (overlay
 * nodes know the bindings of their span only). `key` is the flow that `p` itself would open; *is_open is
 * set if it is, but for other reasons than those of now.
 */
static __always_inline int established(const struct packet *p, const struct flow_key *key,
				       const struct endpoint *e, __u32 peer, __u64 now,
				       int *is_open)
{
	/* A guess at which lookup hits, for speed alone: servers have the lower port. */
	int answer_likely = p->kind == KIND_ANSWER ||
			    bpf_ntohs(p->source_port) < bpf_ntohs(p->destination_port);
	struct flow *answered = 0;
	struct flow_key answered_by;
	int reason = NO_FLOW;

	answered_key(&answered_by, p, key->direction);
	if (answer_likely) {
		answered = map_find(conntrack, &answered_by);
		reason = still(answered, &answered_by, e, peer, now);
	}
	if (reason >= REASON_DENIED && p->kind == KIND_FLOW) {
		struct flow *own = map_find(conntrack, key);

		if (own && own->incarnation == e->incarnation && !is_expired(own, p->protocol, now)) {
			if (is_current(own, e, key->direction, peer)) {
				touch(own, p, 0, now);
				return established_reason(own);
			}
			*is_open = !(own->flags & FLOW_FORGOTTEN);
		}
		if (!answer_likely) {
			answered = map_find(conntrack, &answered_by);
			reason = still(answered, &answered_by, e, peer, now);
		}
	}
	if (answered && reason < REASON_DENIED)
		touch(answered, p, 1, now);
	else if (*is_open || is_first(p))
		return NO_FLOW;
	return reason;
}

static __always_inline void open_flow(const struct packet *p, const struct flow_key *key,
				      const struct endpoint *e, __u32 peer, __u64 now, int reason)
{
	struct flow f = {
		.policy = e->policy,
		.incarnation = e->incarnation,
		.seen = now,
		.peer = peer,
		.flags = enforced_flag(e, key->direction) | proxied_flag(reason),
	};

	if (p->tcp_flags & TCP_RST)
		f.flags |= FLOW_RESET;
	/* A full map evicts the longest unused; without an entry, packets are judged one by one. */
	map_put(conntrack, key, &f);
}

/*
 * Whether an error is about what the node carries for others: it reports on packets that it forwards,
 * and is told of its tunnel's. No policy of the node is about these, and conntrack knows none.
 */
static __always_inline int is_on_the_way(const struct packet *error, const struct packet *quoted,
					 int direction)
{
	struct settings *settings = find_settings();

	if (direction == EGRESS)
		return !same_address(&error->source, &quoted->destination);
	return settings && is_tunnel(settings, quoted, &quoted->destination);
}

/*
 * Whether an ICMP error is about a packet of a known flow. Errors go to whoever sent the quoted
 * packet, from anywhere on its way: the quoted packet, not the error's source, must be the
 * endpoint's. But no pod is on the way to another, so one that was not sent the packet is lying, and
 * who is unknown may be a pod.
 */
static __always_inline int relates_to_flow(struct __sk_buff *skb, const struct packet *error,
					   const struct endpoint *e, int direction, __u32 peer,
					   __u64 now)
{
	struct packet *quoted = scratch(SCRATCH_QUOTED);
	struct flow_key key;
	struct flow *f;
	int opposite = direction == INGRESS ? EGRESS : INGRESS;

	if (!quoted)
		return 0;
	parse_quoted(skb, error, quoted);
	if (quoted->malformed)
		return 0;
	if (quoted->kind != KIND_FLOW && quoted->kind != KIND_ANSWER)
		return 0;
	if (!same_address(&error->destination, &quoted->source))
		return 0;
	if (e->flags & OF_NODE && is_on_the_way(error, quoted, direction))
		return 1;
	/* An error that the endpoint sends must be about a packet that it got. */
	if ((direction == EGRESS || peer == IDENTITY_UNKNOWN || is_pod(peer)) &&
	    !same_address(&error->source, &quoted->destination))
		return 0;
	/* The quoted packet went the other way: it is one of a flow opened that way, or an answer. */
	flow_key(&key, quoted, opposite);
	f = map_find(conntrack, &key);
	if (!f || quoted->kind == KIND_ANSWER) {
		answered_key(&key, quoted, opposite);
		f = map_find(conntrack, &key);
	}
	return still(f, &key, e, 0, now) < REASON_DENIED;
}

#endif
