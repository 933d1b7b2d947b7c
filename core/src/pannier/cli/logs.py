"""Log output of the worker command."""

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from pannier.cli.words import printable


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """What a log line looks like."""

    TEXT = "text"
    JSON = "json"


TEXT: Final = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """A line for people. What a job's error says can't drive their terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as text."""
        return printable(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the fields that a record carries besides its message: tracking_id, queue_id, ..."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as JSON text."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(level: LogLevel, layout: LogFormat) -> None:
    """Log to stderr, unless the program that was loaded has configured logging itself; then only the level is set."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("pannier").setLevel(number)
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if layout is LogFormat.JSON else TextFormatter(TEXT))
    root.addHandler(handler)
    root.setLevel(number)
