"""What every service's process does alike: its settings from the environment, its log to stderr,
its use of memory.

Only a service's `__main__` and `settings` import this; it knows no service.
"""
