"""The ledger folded: the state at a sequence, and the reader that checks every step.

`state` holds what the events say so far; `fold` applies them; `reader` decodes and checks what a
bus stored (sequence, chain, quarantine) before it is applied. Pure save that `reader` is given
stored messages; nothing here touches a bus or a clock.
"""
