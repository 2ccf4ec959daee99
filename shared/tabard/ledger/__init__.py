"""The ledger folded: the state at a sequence, and the reader that checks every step.

`state` holds what the events say so far; `fold` applies them; `reader` decodes and checks what a
bus stored (sequence, chain, quarantine) before it is applied; `messages` turns events into bus
messages; `snapshot` turns a state into bytes and back, `digest` into what its readers compare. All
of these are pure. Only `follow` reads a bus, and only `checkpoint` keeps a file; nothing here
writes to a bus or looks at a clock.
"""
