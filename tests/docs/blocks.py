"""Code blocks of the documentation: found, written to files, run in a shell, compared."""

import doctest
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lima2_core.testing.doubles import eventually

DOCS = Path(__file__).resolve().parents[2] / "docs"
BIN = Path(sys.executable).parent

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml|yaml|cfg))\n")


@dataclass(frozen=True)
class Block:
    """One fenced block; ``file`` is the name in its first line, if that is a comment with one."""

    language: str
    text: str
    file: str


def blocks_of(page):
    """The blocks of a page of the documentation, such as ``how-to/write_a_camera.md``."""
    found = []
    for language, text in _FENCE.findall((DOCS / page).read_text()):
        named = _FILE.match(text)
        found.append(Block(language, text, named[1] if named else ""))
    return found


def write_files(blocks, folder):
    """Write the blocks that name a file; gives their paths."""
    paths = []
    for block in blocks:
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
            paths.append(path)
    return paths


def fits(shown, output):
    """Whether ``output`` is what a page shows; ``...`` in it stands for anything."""
    return doctest.OutputChecker().check_output(shown, output, doctest.ELLIPSIS)


class Shell:
    """One bash in which blocks run one after the other, as somebody would type them.

    Ends all that was started in it.
    """

    def __init__(self, folder, **environ):
        self.log = folder.parent / f"{folder.name}.shell.log"
        self._marks = folder.parent / f"{folder.name}.marks"
        self._marks.mkdir()
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        with self.log.open("wb") as log:
            self._bash = subprocess.Popen(
                ["bash"],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": path, **environ},
                start_new_session=True,
            )
        self._runs = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.stdin.close()
        self._bash.wait()

    def run(self, text, timeout_s=60.0):
        """Run commands and wait for their end; gives what they wrote.

        Raises:
            AssertionError: they failed, or did not end.
        """
        self._runs += 1
        mark = self._marks / str(self._runs)
        before = self.log.stat().st_size
        # Renamed into place, so that it is never seen empty.
        ending = f"echo $? > {mark}.new; mv {mark}.new {mark}"
        self._bash.stdin.write(f"{text}\n{ending}\n".encode())
        self._bash.stdin.flush()
        ended = eventually(mark.exists, timeout_s)
        output = self.log.read_bytes()[before:].decode()
        assert ended, f"did not end within {timeout_s} s:\n{text}\n{output}"
        assert mark.read_text() == "0\n", f"failed:\n{text}\n{output}"
        return output
