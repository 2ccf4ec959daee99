"""What the source is told when it starts: environment variables with the prefix TABARD_."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from tabard.netns.names import RUN
from tabard.process.connection import BusSettings
from tabard.process.environment import PREFIX, LogFormat, LogLevel
from tabard.process.http import HttpAddress


class Settings(BusSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    cluster: str = Field(pattern=f"^{RUN.pattern}$")
    data: Path
    """This process's own directory; measurements of pod starts are written there."""
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    http: HttpAddress = ""
    """Where /metrics, /healthz and /readyz are served; empty: nowhere."""

    pods: Literal["netns", "memory", "none"] = "netns"
    """Real network namespaces; the agents' gates only; or events only."""
    nodes_dir: Path = Path("nodes")
    """Directory with `<node>/agent.sock`."""
    keep_pods: bool = False
    """Whether pods' networks stay when the source is told to stop."""
