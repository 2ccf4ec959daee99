/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The policy decision, without memory of earlier packets. shared/tabard/dataplane/verdict.py is the
 * same in Python; a property test holds the two equal.
 */
#ifndef TABARD_VERDICT_H
#define TABARD_VERDICT_H

#include "maps.h"
#include "packet.h"

#define SECOND 1000000000ULL

/* dataplane.maps.Reason; below REASON_DENIED all allow. */
enum tabard_reason {
	ALLOWED_NO_POLICY = 0,
	ALLOWED_POLICY = 1,
	ALLOWED_ESTABLISHED = 2,
	ALLOWED_HOST = 3,
	ALLOWED_NEIGHBOUR = 4,
	ALLOWED_RELATED = 5,
	ALLOWED_PROXY = 6, /* through the node's DNS proxy */
	REASON_DENIED = 16,
	DENIED_POLICY = 16,
	DENIED_UNKNOWN_PEER = 17,
	DENIED_SPOOFED_SOURCE = 18,
	DENIED_UNKNOWN_ENDPOINT = 19,
	DENIED_TUNNEL_PORT = 20,
	DENIED_UNKNOWN_NODE = 21,
	DENIED_MALFORMED = 22,
	DENIED_FRAGMENT = 23,
	DENIED_ERROR = 24,
	DENIED_PROXY = 25,
	DENIED_STALE = 26,
	REASONS_MAX = 32,
};

/* What a peer sends or is sent, as policies see it. */
struct traffic {
	const union address *peer_address;
	__u32 peer;
	__be16 port;
	__u8 protocol;
	__u8 direction;
};

static __always_inline int is_enforced(const struct endpoint *e, int direction)
{
	return e->flags & (ENFORCED_INGRESS << direction);
}

/*
 * Whether the endpoint may open no new flow: the agent does not know, or is gone, for so long, what the
 * ledger says. A node itself goes on, which must reach the bus to know it again, and so does what it
 * sends its own pods.
 */
static __always_inline int is_stale(const struct endpoint *e, int direction, __u32 peer)
{
	struct settings *settings = find_settings();
	__u64 fresh_at;
	__u32 after;

	if (e->flags & OF_NODE || (direction == INGRESS && peer == IDENTITY_HOST))
		return 0;
	if (!settings)
		return 1;
	/* The shorter of the two, of which 0 is no bound: less one, and unsigned, it is the longest. */
	after = e->stale_after_s - 1U;
	if (settings->stale_after_s - 1U < after)
		after = settings->stale_after_s - 1U;
	if (!++after)
		return 0;
	fresh_at = settings->fresh_at;
	/* Signed: the agent may have written a later time than ours. */
	return !fresh_at || (__s64)(bpf_ktime_get_boot_ns() - fresh_at) > (__s64)(after * SECOND);
}

/* The strength of the entry for `identity`, plus one; 0 if there is none. */
static __always_inline __u64 find_entry(struct policy_key *key, __u32 identity)
{
	__u32 *strength;

	key->identity = identity;
	strength = map_find(policies, key);
	return strength ? *strength + 1ULL : 0;
}

static __always_inline __u64 stronger(__u64 one, __u64 other)
{
	return one > other ? one : other;
}

/* Of an action that decides. */
static __always_inline int reason_of(__u32 action)
{
	if (action == PROXY)
		return ALLOWED_PROXY;
	return action == DENY ? DENIED_POLICY : ALLOWED_POLICY;
}

static __always_inline int evaluate(const struct endpoint *e, const struct traffic *t)
{
	struct policy_key key = {
		.prefix_bits = POLICY_BITS,
		.policy = {(__u32)e->policy, (__u32)(e->policy >> 32)},
		.protocol = t->protocol,
		.port = t->port,
	};
	__u32 peer = t->peer;
	__u32 at_cidr = 0;

	if (!is_enforced(e, t->direction))
		return ALLOWED_NO_POLICY;
	/* The node must reach its pods (kubelet's probes), as in Kubernetes. */
	if (t->direction == INGRESS && peer == IDENTITY_HOST)
		return ALLOWED_HOST;
	/* Unknown is not world: nothing may match it, not even a rule for any peer. */
	if (peer == IDENTITY_UNKNOWN || !map_find(identities, &peer))
		return DENIED_UNKNOWN_PEER;
	/* A rule for CIDRs may hold for pods and nodes in them too, which have their own identities. */
	if (e->flags & (CIDR_PODS_INGRESS << t->direction) && !is_cidr(peer)) {
		struct prefix *prefix = longest_prefix(t->peer_address);

		if (prefix && prefix->flags & CIDR)
			at_cidr = prefix->identity | AT_CIDR;
	}
#pragma clang loop unroll(disable)
	for (int tier = ADMIN; tier < TIERS; tier++) {
		if (e->flags & (IN_ADMIN << (2 * tier + t->direction))) {
			__u64 found;

			key.side = tier << 1 | t->direction;
			found = stronger(find_entry(&key, peer), find_entry(&key, 0));
			if (at_cidr)
				found = stronger(found, find_entry(&key, at_cidr));
			if (found && ((found - 1) & ACTION_MASK) != PASS)
				return reason_of((found - 1) & ACTION_MASK);
		}
		if (tier == NETWORK && e->flags & (ISOLATED_INGRESS << t->direction))
			return DENIED_POLICY;
	}
	return ALLOWED_NO_POLICY;
}

#endif
