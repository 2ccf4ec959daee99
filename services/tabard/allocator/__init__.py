"""The allocator: turns what sources observed into the ledger, and is its only writer.

`react`, `decide` and what they stand on (`commands`, `validity`, `numbering`, `plan`, `envelopes`,
`batch`, `leadership`, and a module per subject: `pods`, `namespaces`, `objects`, `retirement`) are
pure: no input or output, no clock, no randomness; decisions never change the state they are given.
`startup`, `service`, `writer`, `quarantine` and what they wait with (`patience`, `inbox`) are the
edge: they alone touch a bus. Other services are reached through the bus and never imported.
"""
