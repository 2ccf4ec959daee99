"""What can go wrong with a cluster on this machine."""


class ClusterError(Exception):
    """Base of this package's errors: what failed and the observed fact; `next` is what to type."""

    def __init__(self, message: str, next: str = "") -> None:
        super().__init__(message)
        self.next = next


class NotReached(ClusterError):
    """Something did not come about in time."""


class NoCluster(ClusterError):
    """No running cluster, or not the one that was asked for."""
