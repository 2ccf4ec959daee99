"""What a server and the making of streams are told: environment variables prefixed TABARD_."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tabard.bus.config import Address, Membership, ServerConfig, Tls, include
from tabard.bus.port import BusError
from tabard.netns.names import RUN
from tabard.process.connection import BusSettings
from tabard.process.environment import PREFIX, Listed, LogFormat, LogLevel

_PLACE = re.compile(r"(\[(?P<v6>[^\[\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>\d{1,5})")


def _address(text: str) -> Address:
    """`host:port` or `[::1]:port`; ValueError if it is neither."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not host:port")
    try:
        return Address(match["v6"] or match["host"], int(match["port"]))
    except BusError as error:
        raise ValueError(str(error)) from error


def _checked(text: str) -> str:
    _address(text)
    return text


Place = Annotated[str, AfterValidator(_checked)]


class Settings(BaseSettings):
    """Of one server. Without `server_peers` it is a bus by itself; without `server_accounts`
    whoever reaches it may do everything."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    cluster: str = Field(pattern=f"^{RUN.pattern}$")
    data: Path
    """Where the streams are stored."""
    server_name: str
    """Unique in the cluster and the same at every start: replicas belong to names."""
    server_listen: Place = "0.0.0.0:4222"
    server_monitoring: Place = "127.0.0.1:8222"
    """/healthz, /jsz; it asks for no credentials."""
    server_routes: Place = "0.0.0.0:6222"
    """Where it hears the other servers."""
    server_peers: Listed = ()
    """`host:port` of each server's routes, its own may be among them."""
    server_certificate: Path | None = None
    server_key: Path | None = None
    nats_ca: Path | None = None
    server_accounts: Path | None = None
    """accounts.conf of `tabard auth init`."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        guarding = (self.server_certificate, self.server_key, self.nats_ca, self.server_accounts)
        if any(guarding) and not all(guarding):
            raise ValueError(
                "server_certificate, server_key, nats_ca and server_accounts belong together: a "
                "guarded server needs all four"
            )
        try:
            self.config()
        except BusError as error:
            raise ValueError(str(error)) from error
        return self

    def config(self) -> ServerConfig:
        """The server's; ConfigError or ValueError for what it cannot be."""
        tls = None
        if self.server_certificate and self.server_key and self.nats_ca:
            tls = Tls(self.server_certificate, self.server_key, self.nats_ca)
        membership = None
        if self.server_peers:
            peers = tuple(map(_address, self.server_peers))
            membership = Membership(self.cluster, _address(self.server_routes), peers)
        return ServerConfig(
            name=self.server_name,
            listen=_address(self.server_listen),
            monitoring=_address(self.server_monitoring),
            store=self.data,
            membership=membership,
            tls=tls,
            accounts=include(self.server_accounts, self.data) if self.server_accounts else "",
        )


class StreamSettings(BusSettings):
    """Of the making of streams; with accounts its key is the admin's."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    replicas: int = Field(default=1, ge=1, le=5)
    """On how many servers each stream is."""
    ready_timeout_s: float = Field(default=120, gt=0)
    """How long the servers may take to have a leader."""
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
