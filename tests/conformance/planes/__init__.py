"""What answers flows: the pure engine, compiled maps in memory, and the kernel's programs.

All follow one folded state, step by step, by the changes alone; no answer may rest on an earlier
packet.
"""
