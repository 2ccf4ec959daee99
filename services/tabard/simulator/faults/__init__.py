"""Deliberate faults, for the mutation check: each breaks production code while it is planted, and
one checker must notice. A fault that survives is a hole in the simulator or in a checker.
"""
