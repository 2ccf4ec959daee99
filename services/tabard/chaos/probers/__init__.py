"""Real packets all the time: from pods' namespaces to other pods' listeners, each with its stamp.

`running` starts and ends the probers' process and tells it which pods there are; `__main__` is that
process, which knows nothing of bus, ledger or policy: it tries everything, and judges nothing.
"""
