"""The main job, shown: `tabard demo` runs a cluster on an example and puts it through four trials.

Each trial compares real packets with the pure verdict of the same ledger. Here live the probers,
the trials, the yardstick (an address filter built the usual way) and the report; how a cluster is
started is the business of `tabard.cluster`.
"""
