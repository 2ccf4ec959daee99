"""The deterministic simulator: the real allocators and agents on a bus and dataplanes in memory, a
virtual clock, and one seeded scheduler that decides what happens next.
"""
