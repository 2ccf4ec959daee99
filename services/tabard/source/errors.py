"""Why the source, or one of its pods, cannot go on."""


class SourceError(Exception):
    """Base of all errors of this package."""


class PodFailed(SourceError):
    """A pod's network could not be brought up; it will be tried again. Says what and why."""
