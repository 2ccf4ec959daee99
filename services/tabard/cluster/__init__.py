"""A whole small cluster on one machine: `tabard up` and what it must know of a running one.

Here live the supervisor (namespaces, bus, processes, clean-up), the profile by which commands find
a running cluster, and the few calls that both the supervisor and the command line make on a bus:
publishing observed events and waiting for watermarks. Allocator, agents and sources are started as
processes and never imported. No printing for people here: that is `tabard.cli`.
"""
