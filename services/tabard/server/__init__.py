"""One nats-server of the bus where it has a host, a container or a unit of its own.

`python -m tabard.server` writes the server's configuration from environment variables and becomes
the server. `python -m tabard.server.streams` makes the streams once the servers are up. What
`tabard up` starts is `tabard.bus.server`; the words of the configuration are `tabard.bus.config`'s.
"""
