"""Why bytes could not be read as an event."""


class EventError(Exception):
    """Base of all errors of this package."""


class UndecodableError(EventError):
    """The bytes are no event: not msgpack, not an envelope, or fields of the wrong type."""


class UnknownTypeError(EventError):
    """The envelope is whole, but names a type that this release does not know."""


class NewerVersionError(EventError):
    """The event was written by a newer release than this one."""


class MisplacedError(EventError):
    """The event came on another subject than its own: whoever wrote it may not have been allowed to
    say it, and it does not count."""


class ChainError(EventError):
    """The event's chain hash does not follow from the event before it."""
