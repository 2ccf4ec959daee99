"""The bus on NATS JetStream: the one package that imports nats, and its error codes' only reader.

`client` alone touches nats-py's insides; `connection` keeps one client alive and carries requests;
`wire` is pure (bytes in, values out); `publish`, `append`, `read` and `tail` are the port's verbs;
`batch` stores many messages at once, and `gathering` lets publishes that come at once go together;
`streams` says what the streams must be; `objects` is the bucket of snapshots. Stock ordered
consumers, KV watches, object stores and `publish_async` stay out: each loses messages or hangs when
a connection breaks.
"""

from tabard.bus.jetstream.bus import JetStreamBus
from tabard.bus.jetstream.options import Options

__all__ = ["JetStreamBus", "Options"]
