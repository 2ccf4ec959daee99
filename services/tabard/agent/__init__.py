"""The node agent: replays the ledger into one node's maps, brings pods up, says how far it is.

The ledger is folded as it comes (`follower`); a throttled tick (`reconciler`) compiles what is to
be enforced from the present state alone, compares it with what is, and writes the difference on
the one thread that touches the kernel (`worker`). `gate` brings pods up and down for whoever makes
their networks. `changes`, `attachments`, `requests`, `resolution` and `drift.compare` are pure;
`service` wires, and only `ebpf` knows that the kernel has maps. Nothing here decides identities,
and nothing may import another service.
"""
