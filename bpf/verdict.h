/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The policy decision, without memory of earlier packets. shared/tabard/dataplane/verdict.py is the
 * same in Python; a property test holds the two equal.
 */
#ifndef TABARD_VERDICT_H
#define TABARD_VERDICT_H

#include "maps.h"
#include "packet.h"

/* dataplane.maps.Reason; below REASON_DENIED all allow. */
enum tabard_reason {
	ALLOWED_NO_POLICY = 0,
	ALLOWED_POLICY = 1,
	ALLOWED_ESTABLISHED = 2,
	ALLOWED_HOST = 3,
	ALLOWED_NEIGHBOUR = 4,
	ALLOWED_RELATED = 5,
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

static __always_inline int policy_allows(const struct endpoint *e, const struct traffic *t,
					 __u32 identity)
{
	struct policy_key key = {
		.prefix_bits = POLICY_BITS,
		.policy = {(__u32)e->policy, (__u32)(e->policy >> 32)},
		.identity = identity,
		.direction = t->direction,
		.protocol = t->protocol,
		.port = t->port,
	};

	return map_find(policies, &key) != 0;
}

static __always_inline int evaluate(const struct endpoint *e, const struct traffic *t)
{
	__u32 peer = t->peer;

	if (!is_enforced(e, t->direction))
		return ALLOWED_NO_POLICY;
	/* The node must reach its pods (kubelet's probes), as in Kubernetes. */
	if (t->direction == INGRESS && peer == IDENTITY_HOST)
		return ALLOWED_HOST;
	/* Unknown is not world: nothing may match it, not even a rule for any peer. */
	if (peer == IDENTITY_UNKNOWN || !map_find(identities, &peer))
		return DENIED_UNKNOWN_PEER;
	if (policy_allows(e, t, peer) || policy_allows(e, t, 0))
		return ALLOWED_POLICY;
	/* A rule for CIDRs (ipBlock) holds for pods in them too, which carry identities of their own. */
	if (e->flags & (CIDR_PODS_INGRESS << t->direction) && !is_cidr(peer)) {
		struct prefix *cidr = longest_prefix(t->peer_address);

		if (cidr && cidr->flags & CIDR && policy_allows(e, t, cidr->identity))
			return ALLOWED_POLICY;
	}
	return DENIED_POLICY;
}

#endif
