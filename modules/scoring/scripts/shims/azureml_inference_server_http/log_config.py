# ruff: noqa: INP001 - a namespace that other packages of the script's environment may share
"""What a script's ``logging.json`` may name: the formatter and the filter of Azure ML's server; ours."""

import logging
import time


class AMLLogFormatter(logging.Formatter):
    """Lines with time (UTC), level, process and logger."""

    def __init__(self, fmt: str = "", datefmt: str | None = None, style: str = "%") -> None:
        super().__init__(fmt or "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s", datefmt, style)  # type: ignore[arg-type] # one of three characters
        self.converter = time.gmtime


class RootAccessFilter(logging.Filter):
    """Keeps health checks out of a log of requests; ours has none."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "GET / HTTP/1.1" not in record.getMessage()
