"""The dataplane in the kernel: programs at tcx hooks and pinned maps that outlive the agent.

Here live the kernel's maps and programs, the raw bpf(2) calls on them, and the Dataplane port over
them. Not here: deciding what the maps should hold (tabard.policy), or when to write them
(tabard.agent). bcc, and with it LLVM, is imported by `compile` alone, in the one-shot process
`load`: the agent that runs for months carries neither.
"""
