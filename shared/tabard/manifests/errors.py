"""Why a manifest could not be taken."""


class ManifestError(Exception):
    """A manifest is refused as a whole: nothing of what was read with it is applied.

    `origin` is the `file:line` of the fault (or of the nearest field that is there), `path` the
    field (`spec.template.spec.containers[0].name`), `reason` the value found and how to mend it.
    """

    def __init__(self, path: str, reason: str, origin: str = "") -> None:
        super().__init__(": ".join(part for part in (origin, path, reason) if part))
        self.path = path
        self.reason = reason
        self.origin = origin


def shown(value: object) -> str:
    """A value as a message quotes it, cut to a readable length."""
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
