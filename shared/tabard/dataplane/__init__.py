"""What a node enforces: the maps, the port to write them, and verdicts on them in memory.

`maps` is the value that compile makes and drift compares; `port` is what the agent asks of a
dataplane; `verdict` is the one meaning of the maps. `memory` enforces it without a kernel, on the
facts of a `packet` and with a `conntrack` of its own; the eBPF dataplane is the agent's
(`tabard.agent.ebpf`).
"""
