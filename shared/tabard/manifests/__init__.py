"""Kubernetes manifests: reading YAML and JSON, checking them, and what they mean as events.

`source` turns text into documents that know their lines, `fields`, `workloads` and `objects` check
them, `events` says what they publish, `pods` what labels their pods carry, and `forecast` which
state they would bring about: all pure. `reading` alone touches files. What a policy means
is not decided here but in `tabard.policy`; nothing here knows a bus.
"""
