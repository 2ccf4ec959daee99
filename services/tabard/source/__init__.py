"""The manifest source: workloads that the ledger accepted become pods on nodes.

`placement` and `planning` are pure: the ledger's state in, PodStarted and PodStopped out. `service`
publishes a plan and waits until the ledger shows it; `pods` gives each pod a network. What is
wanted is decided from the ledger alone: there is no state of its own to lose.

A pod whose `owner` is set is kept by this source: started, replaced and stopped by it. Other
sources leave `owner` empty.
"""
