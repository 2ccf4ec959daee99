"""Event types, their envelope, and the one codec that turns them into bytes and back.

Pure: no input or output, no clock, no randomness; ids and times come in as arguments. Nothing here
knows the bus that carries the bytes or the state that folds them.
"""
