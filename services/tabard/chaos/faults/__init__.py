"""The faults, by what they hit. Each is a `tabard.chaos.fault.Fault`."""
