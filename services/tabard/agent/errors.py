"""What can go wrong in an agent."""

from enum import StrEnum


class AgentError(Exception):
    """Base of this package's errors: says what failed, the observed fact and what to do next."""


class AlreadyRunning(AgentError):
    """Another agent holds this node, or this data directory; says which, and how to mend it."""


class Code(StrEnum):
    """Why the gate did not do what it was asked."""

    INVALID = "invalid"
    BUSY = "busy"
    STOPPING = "stopping"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    LINK = "link"
    DATAPLANE = "dataplane"


class GateError(AgentError):
    """A request was not carried out; whatever it named stays closed."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
