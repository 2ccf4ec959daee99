"""Structured logs on stderr: one JSON object a line, or lines for people."""

import logging
import os
import sys

import structlog
from structlog.typing import Processor

from tabard.process.environment import LogFormat, LogLevel


def log_to_stderr(level: LogLevel, form: LogFormat) -> None:
    terminal = sys.stderr.isatty()
    rendered: tuple[Processor, ...]
    if form == "console" or (form == "auto" and terminal):
        colours = terminal and not os.environ.get("NO_COLOR")
        rendered = (structlog.dev.ConsoleRenderer(colors=colours),)
    else:
        rendered = (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
