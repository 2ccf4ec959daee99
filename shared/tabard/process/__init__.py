"""What every service's process does alike: settings from the environment, log, use of memory,
metrics and health.

Only services import this, and what starts them; it knows none of them.
"""
