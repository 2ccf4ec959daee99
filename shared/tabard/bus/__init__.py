"""The bus: ordered, durable streams of opaque messages.

`port` is what the rest of Tabard sees; `memory` serves pure tests and the simulator; `jetstream` is
the real thing, and the only package that imports nats. Nothing here knows event types.
"""
