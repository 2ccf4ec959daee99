/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Counting verdicts, and telling of them: every refusal and every new flow. Neither can change a
 * verdict; a full ring buffer loses the event, and nothing waits for its reader.
 */
#ifndef TABARD_EVENTS_H
#define TABARD_EVENTS_H

#include "maps.h"
#include "packet.h"
#include "verdict.h"

struct event {
	__u64 at; /* CLOCK_MONOTONIC nanoseconds */
	union address source;
	union address destination;
	__u32 source_identity;
	__u32 destination_identity;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 direction;
	__u8 reason;
	__u8 padding;
};
_Static_assert(sizeof(struct event) == EVENT_SIZE, "event as layout.py unpacks it");

SHAPE(counters, __u32, __u64);

static __always_inline void count(int direction, int reason)
{
	__u32 index = direction * REASONS_MAX + reason;
	__u64 *counter = map_find(counters, &index);

	if (counter)
		++*counter; /* per CPU, and programs are not preempted by themselves */
}

/* `own`: the endpoint's identity, `peer`: the other side's; either may be 0, unknown. */
static __always_inline void tell(const struct packet *p, int direction, int reason, __u32 own,
				 __u32 peer)
{
	struct event *event = bpf_ringbuf_reserve(MAP(events), sizeof(*event), 0);

	if (!event)
		return;
	*event = (struct event){
		.at = bpf_ktime_get_ns(),
		.source = p->source,
		.destination = p->destination,
		.source_identity = direction == EGRESS ? own : peer,
		.destination_identity = direction == EGRESS ? peer : own,
		.source_port = p->source_port,
		.destination_port = p->destination_port,
		.protocol = p->protocol,
		.direction = direction,
		.reason = reason,
	};
	bpf_ringbuf_submit(event, 0);
}

static __always_inline int refuse(const struct packet *p, int direction, int reason, __u32 own,
				  __u32 peer)
{
	count(direction, reason);
	tell(p, direction, reason, own, peer);
	return TC_ACT_SHOT;
}

/* What should not happen, and is closed all the same. */
static __always_inline int fail(int direction)
{
	count(direction, DENIED_ERROR);
	return TC_ACT_SHOT;
}

#endif
