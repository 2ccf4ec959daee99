"""The faults, by what they hit. Each is a `tabard.chaos.fault.Fault`.

A fault is in effect once `inject` has returned: a process is really down, a file was really
refused. One that cannot be brought about raises, since a run without its fault would prove nothing.
"""
