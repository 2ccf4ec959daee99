"""Chaos on real processes: a cluster, work, packets all the time, faults, and checkers that judge.

`record` is what a run writes down, `fault` what a fault is; everything else makes or reads these.
"""
