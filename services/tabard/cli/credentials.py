"""With which key a command comes to the bus, and by whose word it knows the servers."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files: of an NKey seed, and of the certificates that vouch for servers."""

    nkey: Path | None = None
    ca: Path | None = None

    def or_else(self, other: "Credentials") -> "Credentials":
        """With `other`'s files where there are none."""
        return Credentials(self.nkey or other.nkey, self.ca or other.ca)


NONE = Credentials()
given: ContextVar[Credentials] = ContextVar("given", default=NONE)
"""Those of the options --nkey and --ca of this command."""


def of_environment(environment: Mapping[str, str]) -> Credentials:
    """TABARD_NATS_NKEY and TABARD_NATS_CA."""
    return Credentials(*(_path(environment, name) for name in ("NKEY", "CA")))


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    text = environment.get(f"TABARD_NATS_{name}", "")
    return Path(text) if text else None
