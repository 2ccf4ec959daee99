"""What the source is told when it starts: environment variables with the prefix TABARD_."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tabard.netns.names import RUN


def _split(value: object) -> object:
    """`a,b` as two items."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TABARD_", frozen=True)

    nats: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(min_length=1)
    cluster: str = Field(pattern=f"^{RUN.pattern}$")
    data: Path
    """This process's own directory; measurements of pod starts are written there."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    pods: Literal["netns", "memory", "none"] = "netns"
    """Real network namespaces; the agents' gates only; or events only."""
    nodes_dir: Path = Path("nodes")
    """Directory with `<node>/agent.sock`."""
    keep_pods: bool = False
    """Whether pods' networks stay when the source is told to stop."""
