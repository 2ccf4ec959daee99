"""Benchmarks: `make bench`. What a figure is (`figures`), how figures are shown (`table`) and kept
(`report`), who runs them (`__main__`, `child`, `lab`), and one module for each benchmark.

A benchmark's module says in its first line what it measures, and has `run(lab)`, which returns
figures. It asserts that what it measured was right, and never how long it took.
"""
