"""Settings by which a process reaches the bus, the same for all, and the bus itself."""

from dataclasses import replace
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from tabard.auth.keys import read_key
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.process.environment import Listed


class BusSettings(BaseSettings):
    """What every service's settings begin with."""

    nats: Listed = Field(min_length=1)
    """URLs of the bus's servers: nats://HOST:PORT, or tls://HOST:PORT."""
    nats_nkey: Path | None = None
    """File with this process's NKey seed, which nobody else may be able to read."""
    nats_ca: Path | None = None
    """File with the certificates of those who vouch for the servers (PEM)."""

    @field_validator("nats_nkey", "nats_ca", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("nats_nkey")
    @classmethod
    def _usable(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_key(value)
        return value

    @field_validator("nats_ca")
    @classmethod
    def _there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}; `tabard auth init` writes one, ca.pem")
        return value

    async def connect(self, name: str, options: Options | None = None) -> JetStreamBus:
        """The bus, as `JetStreamBus.connect`, with this process's key."""
        options = replace(options or Options(), nkey=self.nats_nkey, ca=self.nats_ca)
        return await JetStreamBus.connect(self.nats, name=name, options=options)
