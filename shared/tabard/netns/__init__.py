"""Network namespaces: what they are called, and how a thread gets into one.

`names` is pure. `enter` makes system calls (root only) and knows nothing of pods, nodes or events.
"""
