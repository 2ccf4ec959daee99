/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * One program for each place where packets meet a node (tcx hooks):
 *
 *   pod ──► host-side veth ingress: from_pod ──┬─► local pod's veth egress: to_pod ──► pod
 *                                              ├─► VXLAN device ──► other node: from_overlay ──► to_pod
 *                                              └─► the host's stack ──► (to_pod if for a pod)
 *   other machines ──► underlay ingress: from_wire ──► the host's stack
 *   the host's stack ──► underlay egress: to_wire ──► other machines
 *   from_pod, to_pod ──► proxy device ──► DNS proxy ──► proxy device ingress: from_proxy ──► back
 *
 * from_pod judges egress and to_pod ingress. What no case names is dropped.
 *
 * A node that policies select is judged too: by from_wire what it gets, by to_wire (which is there only
 * then) what it sends, and beside its pods' own policies by from_pod and to_pod.
 */
#include <linux/pkt_cls.h>
#include "arp.h"
#include "enforce.h"
#include "events.h"
#include "fragments.h"
#include "maps.h"
#include "overlay.h"
#include "packet.h"
#include "proxy.h"
#include "replace.h"
#include "verdict.h"

static __always_inline int pass(int direction, int reason)
{
	count(direction, reason);
	return TC_ACT_OK;
}

/* Whether a pod's discovery packet speaks of itself, and to its own link only. */
static __always_inline int is_own_discovery(struct __sk_buff *skb, const struct packet *p)
{
	struct endpoint *e;

	if (!is_link_local(&p->destination) && !is_link_multicast(&p->destination))
		return 0;
	if (is_unset(&p->source) || is_link_local(&p->source))
		return 1;
	e = find_endpoint(&p->source);
	return e && e->ifindex == skb->ifindex;
}

int from_pod(struct __sk_buff *skb)
{
	struct settings *settings = find_settings();
	struct packet *p = scratch(SCRATCH_PACKET);
	struct endpoint *self, *to;
	struct prefix *prefix = 0;
	__u32 peer = IDENTITY_UNKNOWN;
	int proxied = skb->mark == MARK_PROXIED;
	__u32 *host;
	int reason;

	if (!settings || !p)
		return fail(EGRESS);
	parse(skb, p);
	if (p->malformed || skb->vlan_present)
		return refuse(p, EGRESS, DENIED_MALFORMED, 0, 0);
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return arp_is_own(skb, 1) ? pass(EGRESS, ALLOWED_NEIGHBOUR)
					  : refuse(p, EGRESS, DENIED_SPOOFED_SOURCE, 0, 0);
	if (!p->ethertype_known)
		return refuse(p, EGRESS, DENIED_MALFORMED, 0, 0);
	if (p->kind == KIND_NEIGHBOUR && is_own_discovery(skb, p)) {
		skb->mark = 0;
		return pass(EGRESS, ALLOWED_NEIGHBOUR);
	}

	self = find_endpoint(&p->source);
	if (!self)
		return refuse(p, EGRESS, DENIED_UNKNOWN_ENDPOINT, 0, 0);
	if (self->ifindex != skb->ifindex)
		return refuse(p, EGRESS, DENIED_SPOOFED_SOURCE, 0, 0);
	resolve_fragment(p);

	to = find_endpoint(&p->destination);
	if (to) {
		peer = to->identity;
	} else {
		host = map_find(hosts, &p->destination);
		if (host)
			peer = *host;
		/* Nodes are in no pod's prefix; for others the overlay needs the way too. */
		if (!host || (settings->mode == OVERLAY && !is_node(peer)))
			prefix = longest_prefix(&p->destination);
		if (!host && prefix && !(prefix->flags & POD_RANGE))
			peer = prefix->identity;
	}

	/*
	 * Nothing but this node's own VXLAN device may speak to a tunnel port, or a pod could name its
	 * identity itself. Between pods the port is one like any other.
	 */
	if (is_to_tunnel_port(settings, p) && (!to || to->flags & OF_NODE) && !is_pod(peer))
		return refuse(p, EGRESS, DENIED_TUNNEL_PORT, self->identity, peer);

	reason = enforce(skb, p, self, EGRESS, peer, proxied);
	if (reason >= REASON_DENIED)
		return TC_ACT_SHOT;
	if (reason == ALLOWED_PROXY)
		return divert(skb, settings->proxy_ifindex, EGRESS);
	if (to && to->flags & OF_NODE) {
		skb->mark = 0;
		/* An error about a flow of the pod's is about one of the node's. */
		if (reason == ALLOWED_RELATED || p->kind == KIND_NEIGHBOUR)
			return TC_ACT_OK;
		reason = enforce_packet(p, to, INGRESS, self->identity, 0);
		return reason < REASON_DENIED ? TC_ACT_OK : TC_ACT_SHOT;
	}
	if (to)
		return deliver(skb, to, self->identity, EGRESS);
	if (settings->mode == OVERLAY && prefix && prefix->remote && !is_node(peer))
		return encapsulate(skb, prefix, settings->overlay_ifindex, self->identity);
	skb->mark = 0;
	return TC_ACT_OK;
}

/* Who is at an address, as far as this node knows. */
static __always_inline __u32 identity_at(const union address *address)
{
	__u32 *host = map_find(hosts, address);
	struct prefix *prefix;

	if (host)
		return *host;
	prefix = longest_prefix(address);
	return prefix && !(prefix->flags & POD_RANGE) ? prefix->identity : IDENTITY_UNKNOWN;
}

/* Who sent a packet that came without a mark: through the host's stack, or from the wire. */
static __always_inline __u32 unmarked_sender(const struct settings *settings,
					     const union address *source)
{
	__u32 peer = identity_at(source);

	/* In overlay mode only the tunnel carries pods' packets: this one's address is a claim. */
	if (settings->mode == OVERLAY && is_pod(peer))
		peer = IDENTITY_UNKNOWN;
	return peer;
}

int to_pod(struct __sk_buff *skb)
{
	struct settings *settings = find_settings();
	__u32 marked = is_marked(skb->mark);
	__u32 sender = marked ? skb->mark & MARK_IDENTITY_MASK : IDENTITY_UNKNOWN;
	struct packet *p = scratch(SCRATCH_PACKET);
	int proxied = skb->mark == MARK_PROXIED;
	struct endpoint *self, *node;
	__u32 peer;
	int reason;

	if (!settings || !p)
		return fail(INGRESS);
	parse(skb, p);
	if (p->malformed)
		return refuse(p, INGRESS, DENIED_MALFORMED, 0, sender);
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return !marked && arp_is_own(skb, 0)
			       ? pass(INGRESS, ALLOWED_NEIGHBOUR)
			       : refuse(p, INGRESS, DENIED_UNKNOWN_ENDPOINT, 0, 0);
	if (!p->ethertype_known)
		return refuse(p, INGRESS, DENIED_MALFORMED, 0, sender);
	/* With a mark it came from another pod and not from this link. */
	if (p->kind == KIND_NEIGHBOUR && !marked)
		return pass(INGRESS, ALLOWED_NEIGHBOUR);

	self = find_endpoint(&p->destination);
	if (!self || self->ifindex != skb->ifindex)
		return refuse(p, INGRESS, DENIED_UNKNOWN_ENDPOINT, 0, sender);
	resolve_fragment(p);
	/* Who sent what the proxy lets go on was known before: now the flow that it answers says it. */
	peer = marked || proxied ? sender : unmarked_sender(settings, &p->source);
	/* What the node sends, save for reports on packets: it is on the way of all that its pods send. */
	if (peer == IDENTITY_HOST && !marked && p->kind != KIND_ERROR) {
		node = find_node(settings, &p->source);
		if (node && enforce_packet(p, node, EGRESS, self->identity, 0) >= REASON_DENIED)
			return TC_ACT_SHOT;
	}
	reason = enforce(skb, p, self, INGRESS, peer, proxied);
	if (reason >= REASON_DENIED)
		return TC_ACT_SHOT;
	if (reason == ALLOWED_PROXY)
		return divert(skb, settings->proxy_ifindex, INGRESS);
	return TC_ACT_OK;
}

/* The DNS proxy lets a packet go on, or answers in a server's name. */
int from_proxy(struct __sk_buff *skb)
{
	struct packet *p = scratch(SCRATCH_PACKET);
	struct endpoint *pod;
	int direction = diverted_from(skb);

	if (!p || direction < 0)
		return fail(EGRESS);
	parse(skb, p);
	if (p->malformed || !p->ethertype_known)
		return fail(direction);
	pod = find_endpoint(direction == EGRESS ? &p->source : &p->destination);
	return pod && !(pod->flags & OF_NODE) ? resume(skb, pod, direction) : fail(direction);
}

int from_overlay(struct __sk_buff *skb)
{
	union address node = {};
	struct packet *p = scratch(SCRATCH_PACKET);
	struct endpoint *to;
	__u32 sender;

	if (!p || decapsulated(skb, &node, &sender))
		return fail(INGRESS);
	if (!map_find(nodes, &node)) {
		p->source = node;
		return refuse(p, INGRESS, DENIED_UNKNOWN_NODE, 0, sender);
	}
	parse(skb, p);
	if (p->malformed || !p->ethertype_known)
		return refuse(p, INGRESS, DENIED_MALFORMED, 0, sender);
	/* This node's pods are here; another node's packet in their name is a lie. */
	if (find_endpoint(&p->source))
		return refuse(p, INGRESS, DENIED_SPOOFED_SOURCE, 0, sender);
	to = find_endpoint(&p->destination);
	if (!to || to->flags & OF_NODE)
		return refuse(p, INGRESS, DENIED_UNKNOWN_ENDPOINT, 0, sender);
	return deliver(skb, to, sender, INGRESS);
}

#define VLAN_NUMBER 0x0fff

static __always_inline int is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

int from_wire(struct __sk_buff *skb)
{
	struct settings *settings = find_settings();
	struct packet *p = scratch(SCRATCH_PACKET);
	struct endpoint *self;
	__u32 *host;
	int reason;

	if (!settings || !p)
		return fail(INGRESS);
	/*
	 * Malformed packets are the host's to judge, unless policies select it; the addresses come
	 * before what may be wrong.
	 */
	parse(skb, p);
	/*
	 * The kernel has taken off one VLAN tag already. Beneath a priority tag (number 0) it will take
	 * off a second and receive what is in it as this device's own (net/core/dev.c), unseen here.
	 */
	if (is_vlan(skb->protocol) && !(skb->vlan_tci & VLAN_NUMBER))
		return refuse(p, INGRESS, DENIED_MALFORMED, 0, 0);
	if (!p->ethertype_known)
		return TC_ACT_OK;
	/* From outside come neither this node's pods nor the node itself, which all pods must accept. */
	host = map_find(hosts, &p->source);
	if ((host && *host == IDENTITY_HOST) || find_endpoint(&p->source))
		return refuse(p, INGRESS, DENIED_SPOOFED_SOURCE, 0, 0);
	self = find_node(settings, &p->destination);
	if (self && p->malformed)
		return refuse(p, INGRESS, DENIED_MALFORMED, self->identity, 0);
	if (self)
		resolve_fragment(p);
	if (!p->malformed && p->kind == KIND_FLOW && is_to_tunnel_port(settings, p) &&
	    !map_find(nodes, &p->source))
		return refuse(p, INGRESS, DENIED_UNKNOWN_NODE, 0, 0);
	if (!self || p->kind == KIND_NEIGHBOUR || is_tunnel(settings, p, &p->source))
		return TC_ACT_OK;
	reason = enforce(skb, p, self, INGRESS, unmarked_sender(settings, &p->source), 0);
	return reason < REASON_DENIED ? TC_ACT_OK : TC_ACT_SHOT;
}

/* What leaves the node in its own name; what it forwards is not its own. */
int to_wire(struct __sk_buff *skb)
{
	struct settings *settings = find_settings();
	struct packet *p = scratch(SCRATCH_PACKET);
	struct endpoint *self;
	int reason;

	if (!settings || !p)
		return fail(EGRESS);
	parse(skb, p);
	if (!p->ethertype_known)
		return TC_ACT_OK;
	self = find_node(settings, &p->source);
	if (!self)
		return TC_ACT_OK;
	if (p->malformed)
		return refuse(p, EGRESS, DENIED_MALFORMED, self->identity, 0);
	resolve_fragment(p);
	if (p->kind == KIND_NEIGHBOUR || is_tunnel(settings, p, &p->destination))
		return TC_ACT_OK;
	reason = enforce(skb, p, self, EGRESS, identity_at(&p->destination), 0);
	return reason < REASON_DENIED ? TC_ACT_OK : TC_ACT_SHOT;
}

int replace_host(struct __sk_buff *skb)
{
	return replace_host_in_place(skb);
}

int replace_endpoint(struct __sk_buff *skb)
{
	return replace_endpoint_in_place(skb);
}
