"""What must hold, and whoever looks whether it does: one checker for each invariant, on what was
written down of a cluster, real or simulated.

No checker asks the code that it holds to account: each reads events with a model of its own.
"""
