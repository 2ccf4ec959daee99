"""Pods' networks: what turns an event into something that sends and answers packets.

`keeper` decides when a pod is brought up and taken down; a runtime (`memory`, or `kernel` with real
network namespaces) does it, always asking the node's agent first (`gate`). Nothing here decides
which pods there should be.
"""
