"""Who may do what on the bus, and the keys and certificates that prove who one is.

`keys` alone imports nkeys.
"""
