"""The emulated detector as a process: told what to do over a socket, one acquisition at a time.

Requests and answers are JSON, one message each:

========  ===============================================  ======================================
request   values                                           answer
========  ===============================================  ======================================
prepare   ``config`` and ``images``, see `setup_of`        ``{}`` or ``{"error", "path"}``
start     ``per_trigger``: frames of one, 0 = none needed  ``{}``, before the first frame
trigger                                                    ``{}``
stop                                                       ``{"exposed"}``, after the last packet
========  ===============================================  ======================================

The number of frames exposed is in memory that both sides map.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from camera_plugins.jungfrau.emulator._sdk import load_dark_maps, load_images
from camera_plugins.jungfrau.emulator.images import (
    ImageSource,
    dark_images,
    numbered_images,
    pattern_image,
    repeated_image,
    stacked_images,
)
from camera_plugins.jungfrau.emulator.sending import Emulator, EmulatorConfig
from camera_plugins.jungfrau.faults import FaultMix, FaultRule, Faults
from lima2_core.errors import ParamError

MESSAGE_BYTES: Final = 2**16
SHARED_BYTES: Final = mmap.PAGESIZE
ENDLESS: Final = 2**62
BUILT_IN: Final = ("numbered", "pattern", "dark")
"""Names of images that come from no file."""


def setup_of(tree: Mapping[str, Any]) -> tuple[EmulatorConfig, ImageSource]:
    """What a request to prepare asks for.

    Raises:
        ParamError: it cannot be done; the path is one of the group ``det.emulator``.
    """
    images = tree["images"]
    rules = tuple(FaultRule.from_text(text) for text in images["faults"])
    mix = FaultMix.from_text(images["mix"], images["seed"]) if images["mix"] else None
    plain = dict(tree["config"])
    entries = plain.pop("destinations")
    config = EmulatorConfig(
        destinations=tuple(tuple((host, port) for host, port in entry) for entry in entries),
        faults=Faults(rules, mix),
        keep_masks=False,
        **plain,
    )
    return config, _images(images)


def _images(tree: Mapping[str, Any]) -> ImageSource:
    name = tree["images"]
    if name in BUILT_IN:
        _file_images.cache_clear()
    if name == "numbered":
        return numbered_images
    if name == "pattern":
        return repeated_image(pattern_image())
    if name == "dark":
        pedestal, rms = load_dark_maps(Path(tree["calibration_path"]))
        return dark_images(pedestal, rms, tree["stage"], tree["seed"])
    try:
        changed_ns = os.stat(name).st_mtime_ns
    except OSError:
        changed_ns = 0  # it cannot be read either, which is told there
    return _file_images(name, tree["dataset"], changed_ns)


@lru_cache(maxsize=1)
def _file_images(name: str, dataset: str, changed_ns: int) -> ImageSource:
    """Images of a file as it is at present, kept from one acquisition to the next."""
    where = "det.emulator.images"
    return stacked_images(load_images(Path(name), dataset, where), where)


class DetectorProcess:
    """Serves one control; ends with it."""

    def __init__(self, control: socket.socket, shared: mmap.mmap) -> None:
        self._control = control
        self._exposed = memoryview(shared)[:8].cast("q")
        self._emulator: Emulator | None = None
        self._frames = 0
        self._triggers = 0
        self._acquiring = self._stopped = self._ended = False

    def release(self) -> None:
        """Let go of the sockets and of the shared memory."""
        self._let_go()
        self._exposed.release()

    def run(self) -> None:
        """Serve until the other side hangs up."""
        while not self._ended:
            self._serve(None)

    def _serve(self, timeout_s: float | None) -> None:
        """Carry out one request, if one comes."""
        if not select.select([self._control], [], [], timeout_s)[0]:
            return
        message = self._control.recv(MESSAGE_BYTES)
        if not message:
            self._ended = self._stopped = True
            return
        request = json.loads(message)
        match request["do"]:
            case "prepare":
                self._answer(self._prepare(request))
            case "start":
                self._answer({})
                self._acquire(request["per_trigger"])
            case "trigger":
                self._triggers += 1
                self._answer({})
            case "stop":
                self._stopped = True
                if not self._acquiring:
                    self._let_go()
                    self._answer({"exposed": self._exposed[0]})

    def _prepare(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._let_go()
        try:
            config, images = setup_of(request)
            self._emulator = Emulator(config, images, self._note)
        except ParamError as error:
            return {"error": error.message.removeprefix(f"{error.path}: "), "path": error.path}
        except OSError as error:  # no way to an address
            return {"error": f"no way to the receivers: {error}", "path": ""}
        self._frames = config.frames
        self._exposed[0] = 0
        self._triggers = 0
        self._stopped = False
        return {}

    def _acquire(self, per_trigger: int) -> None:
        """Send until all is sent or a stop comes; the socket is looked at between frames."""
        emulator = self._emulator
        if emulator is None:
            return
        self._acquiring = True
        used = 0
        while not self._stop_asked() and emulator.account.frames < self._frames:
            left = self._frames - emulator.account.frames
            if not per_trigger:
                emulator.burst(left, self._stop_asked)
            elif used < self._triggers:
                used += 1
                emulator.burst(min(per_trigger, left), self._stop_asked)
            else:
                self._serve(None)
        emulator.finish()
        self._acquiring = False
        self._let_go()
        if self._stopped and not self._ended:
            self._answer({"exposed": self._exposed[0]})

    def _stop_asked(self) -> bool:
        self._serve(0.0)
        return self._stopped

    def _note(self, exposed: int) -> None:
        self._exposed[0] = exposed

    def _let_go(self) -> None:
        if self._emulator is not None:
            self._emulator.close()
            self._emulator = None

    def _answer(self, tree: Mapping[str, Any]) -> None:
        self._control.send(json.dumps(tree).encode())


def main(argv: Sequence[str]) -> int:
    """Serve the socket ``argv[0]`` with the shared memory ``argv[1]``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the control ends this process
    with (
        socket.socket(fileno=int(argv[0])) as control,
        mmap.mmap(int(argv[1]), SHARED_BYTES) as shared,
    ):
        process = DetectorProcess(control, shared)
        try:
            process.run()
        except (BrokenPipeError, ConnectionResetError):
            return 0
        finally:
            process.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
