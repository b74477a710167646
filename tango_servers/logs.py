"""One log format for the suite, to the terminal or to numbered files."""

from __future__ import annotations

import logging
from pathlib import Path

from tango_servers.names import LogLevel

TRACE = 5
_LEVELS = {
    LogLevel.trace: TRACE,
    LogLevel.debug: logging.DEBUG,
    LogLevel.info: logging.INFO,
    LogLevel.warning: logging.WARNING,
    LogLevel.error: logging.ERROR,
    LogLevel.fatal: logging.CRITICAL,
}
_PACKAGES = ("lima2_core", "camera_plugins", "processing", "tango_servers")
_FORMAT = "%(asctime)s %(levelname)-7s %(threadName)-16s %(name)s: %(message)s"
_FILE_BYTES = 16 * 2**20


class NumberedFiles(logging.FileHandler):
    """Log files with ``%N`` in their name as a counter from 0; the next one after 16 MiB."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder = folder
        self._pattern = pattern
        self._number = 0
        super().__init__(self._path(), mode="a", encoding="utf-8", delay=True)

    def _path(self) -> Path:
        return self._folder / self._pattern.replace("%N", str(self._number))

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if "%N" in self._pattern and self.stream is not None and self.stream.tell() > _FILE_BYTES:
            self.close()
            self._number += 1
            self.baseFilename = str(self._path().absolute())


def set_up(level: LogLevel, folder: Path | None, pattern: str) -> None:
    """Send the records of the suite to files in ``folder``, or to the terminal without one.

    Raises:
        OSError: the folder cannot be made.
    """
    logging.addLevelName(TRACE, "TRACE")
    handler: logging.Handler = logging.StreamHandler()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        handler = NumberedFiles(folder, pattern)
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: LogLevel) -> None:
    """Write records of the suite from ``level`` upwards."""
    logging.addLevelName(TRACE, "TRACE")
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(_LEVELS[level])


def level() -> LogLevel:
    """The level set last."""
    effective = logging.getLogger(_PACKAGES[0]).getEffectiveLevel()
    return max(
        (name for name, value in _LEVELS.items() if value <= effective), default=LogLevel.trace
    )
