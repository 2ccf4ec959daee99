"""Labels, label sets and the identity number space.

Pure: no input or output, no clock, no randomness. What an identity *is* lives here; who has
which (state) lives in `tabard.ledger`, and what it may do in `tabard.policy`.
"""
