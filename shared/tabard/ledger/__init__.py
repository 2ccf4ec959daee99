"""The ledger folded: the state at a sequence, and the reader that checks every step.

`state` holds what the events say so far; `fold` applies them; `reader` decodes and checks what a
bus stored (sequence, chain, quarantine) before it is applied; `messages` turns events into bus
messages; `snapshot` turns a state into bytes and back, `digest` into what its readers compare. All
of these are pure. `start` and `follow` read a bus, `archive` keeps snapshots there, and `trimming`
has it forget what these stand for; only `checkpoint` and `export` keep files. Nothing here writes
an event or looks at a clock.
"""
