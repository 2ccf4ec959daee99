/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The maps and their entries: the kernel's side of shared/tabard/dataplane/maps.py, which says what
 * they mean. Keys and values are packed by services/tabard/agent/ebpf/layout.py, which also hands
 * the compiler each map's number and sizes: MAP_hosts, MAP_hosts_KEY, MAP_hosts_VALUE and so on.
 * A program names a map by its number; the loader puts the map's file descriptor in its place.
 */
#ifndef TABARD_MAPS_H
#define TABARD_MAPS_H

#include <linux/types.h>

#define MAP(name) ((void *)bpf_pseudo_fd(BPF_PSEUDO_MAP_FD, MAP_##name))

#define map_find(name, key) bpf_map_lookup_elem(MAP(name), (void *)(key))
#define map_put(name, key, value) bpf_map_update_elem(MAP(name), (void *)(key), value, BPF_ANY)

#define SHAPE(name, key, value)                                                                    \
	_Static_assert(sizeof(key) == MAP_##name##_KEY, #name " key as layout.py packs it");       \
	_Static_assert(sizeof(value) == MAP_##name##_VALUE, #name " value as layout.py packs it")

/* IPv4 is mapped into IPv6 (::ffff:a.b.c.d), so that one key and one program serve both. */
union address {
	__u8 bytes[16];
	__u32 words[4];
};

enum direction { INGRESS = 0, EGRESS = 1 };

enum mode { OVERLAY = 0, NATIVE = 1 };

enum reserved_identity {
	IDENTITY_UNKNOWN = 0,
	IDENTITY_HOST = 1,
	IDENTITY_REMOTE_NODE = 6,
	IDENTITY_POD_MIN = 128,
	IDENTITY_CIDR_MIN = 1 << 24, /* and up: of this node only, never in a mark or on the wire */
};

struct settings {
	__u32 mode;
	__u32 overlay_ifindex;
	__u32 proxy_ifindex; /* where the node's DNS proxy reads; it may be gone, with what is sent there */
	__be16 tunnel_port;
	__u8 guards_node; /* some endpoint is OF_NODE */
	__u8 padding;
	__u32 filled; /* the agent's: these maps hold a full set (see migration.py) */
	__u32 stale_after_s; /* every pod's, beside its endpoint's own; 0: none */
	__u64 fresh_at; /* CLOCK_BOOTTIME: the maps were known to be the ledger's; 0: never yet */
};
SHAPE(settings, __u32, struct settings);

enum endpoint_flag {
	ENFORCED_INGRESS = 1, /* 1 << direction */
	ENFORCED_EGRESS = 2,
	CIDR_PODS_INGRESS = 4, /* 4 << direction */
	CIDR_PODS_EGRESS = 8,
	ISOLATED_INGRESS = 16, /* 16 << direction */
	ISOLATED_EGRESS = 32,
	IN_ADMIN = 64, /* 64 << (2 * tier + direction) */
	OF_NODE = 4096, /* the node's own address: no pod's, and behind no interface */
};

enum tier { ADMIN = 0, NETWORK = 1, BASELINE = 2, TIERS = 3 };

struct endpoint {
	__u64 incarnation;
	__u64 policy;
	__u32 identity;
	__u32 ifindex;
	__u8 mac[6];
	__u8 host_mac[6];
	__u16 flags;
	__u16 stale_after_s; /* 0: none */
};

/* Replaced in place (replace.h): all that one packet reads of it is of the same side. */
struct endpoint_entry {
	__u32 current; /* its last bit: which side counts */
	__u32 padding;
	struct endpoint sides[2];
};
SHAPE(endpoints, union address, struct endpoint_entry);

/*
 * What an entry leaves open stands last, since a longest-prefix match can only widen from the end:
 * 128 bits name one port, 112 + n a range of ports, 112 a protocol, 104 all traffic with the peer.
 */
struct policy_key {
	__u32 prefix_bits;
	__u32 policy[2]; /* 64 bits in host order, as two so that nothing is misaligned */
	__u32 identity;
	__u8 side; /* tier << 1 | direction */
	__u8 protocol;
	__be16 port;
};
#define POLICY_BITS 128
#define AT_CIDR (1U << 31) /* in an identity: pods and nodes at addresses of this CIDR */

/* An entry's value is its precedence * 4 + action. Of those that match, the greatest decides. */
enum action { PASS = 0, ALLOW = 1, PROXY = 2, DENY = 3, ACTION_MASK = 3 };
SHAPE(policies, struct policy_key, __u32);

struct prefix_key {
	__u32 prefix_bits;
	union address address;
};

enum prefix_flag { POD_RANGE = 1, CIDR = 2 };

struct prefix {
	__u32 identity;
	__u8 flags;
	__u8 remote; /* `tunnel` is set */
	__u8 padding[2];
	union address tunnel;
};
SHAPE(prefixes, struct prefix_key, struct prefix);

SHAPE(identities, __u32, __u8);
SHAPE(nodes, union address, __u8);
SHAPE(hosts, union address, __u32);

static __always_inline int is_node(__u32 identity)
{
	return identity == IDENTITY_HOST || identity == IDENTITY_REMOTE_NODE;
}

static __always_inline int is_cidr(__u32 identity)
{
	return identity >= IDENTITY_CIDR_MIN;
}

static __always_inline int is_pod(__u32 identity)
{
	return identity >= IDENTITY_POD_MIN && !is_cidr(identity);
}

static __always_inline struct endpoint *find_endpoint(const union address *address)
{
	struct endpoint_entry *entry = map_find(endpoints, address);

	return entry ? &entry->sides[*(volatile __u32 *)&entry->current & 1] : 0;
}

/* The node's entry for an address of its own; there is one only while policies select the node. */
static __always_inline struct endpoint *find_node(const struct settings *settings,
						  const union address *address)
{
	struct endpoint *e = settings->guards_node ? find_endpoint(address) : 0;

	return e && e->flags & OF_NODE ? e : 0;
}

static __always_inline struct prefix *longest_prefix(const union address *address)
{
	struct prefix_key key = {.prefix_bits = 128, .address = *address};

	return map_find(prefixes, &key);
}

static __always_inline struct settings *find_settings(void)
{
	__u32 zero = 0;

	return map_find(settings, &zero);
}

#endif
