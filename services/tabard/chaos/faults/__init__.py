"""Kinds of faults, a module each: every one is a `Fault` of `tabard.chaos.fault`."""
