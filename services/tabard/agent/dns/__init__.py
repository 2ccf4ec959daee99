"""The node's DNS proxy: what pods ask for is held against their policies, what they are told is
published before they hear it.

    pod → from_pod ─► device ─► proxy: may it ask for this name? ─► device ─► from_proxy → server
    pod ← to_pod ◄─ device ◄─ proxy: published and enforced here ◄─ device ◄─ to_pod ← server

`frames`, `lookups` and `pending` are pure, `messages` alone knows the DNS library, `proxy` is the
edge. Not here: which names policies ask for (tabard.policy.names), and what becomes of an address
(the allocator's).
"""
