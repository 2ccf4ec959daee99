"""All targets, by name."""

from fuzzing.parsers import records, wires, words

TARGETS = {each.name: each for each in (*records.TARGETS, *words.TARGETS, *wires.TARGETS)}
