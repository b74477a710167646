"""One acquisition of the demonstration through the front: one control device for everything.

Nothing is used but plain Tango: what is done here, any script or panel can do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tango
from numpy.typing import NDArray

from lima2_core.data.encoding import decode_image
from lima2_core.data.frame import PRESENT
from lima2_core.data.news import unpack
from lima2_core.errors import BusyError, Lima2Error
from lima2_core.state.system import ENDED
from lima2_core.system.ports import UnreachableError
from tango_servers.errors import error_of, sentence_of
from tango_servers.local.demo_outcome import (
    LIVE_DISTANCE,
    LIVE_EVERY_S,
    PIPELINE,
    POLL_S,
    PREFIX,
    STALL_S,
    Live,
    Outcome,
    rate_hz,
)
from tango_servers.local.demo_plan import Plan
from tango_servers.local.demo_progress import Progress

STREAM = "roi_statistics"
DATASET = "entry_0000/instrument/detector/data"
COMMAND_TIMEOUT_MS = 20_000
_ENDED = frozenset(phase.value for phase in ENDED)


class FrontAcquisition:
    """A session with the front; `prepare`, then `run`.

    Raises:
        Lima2Error: from every method, where the system refuses.
    """

    def __init__(self, plan: Plan, tango_host: str, control: str) -> None:
        self._plan = plan
        self._host = tango_host
        self._live = Live()
        with _refusals("The front does not answer"):
            self._front = self._proxy(control)
        self._run: Any = None

    def prepare(self, folder: Path) -> None:
        """Write the parameters, and prepare control and receivers; files go to ``folder``."""
        plan, front = self._plan, self._front
        with _refusals("The acquisition cannot be prepared"):
            front.front_params = "{}"
            front.pipeline = PIPELINE
            # Everyday parameters have attributes; those of the detector are in the whole set.
            params = json.loads(front.front_params)
            params["acquisition"]["det"].update(plan.detector)
            for group, values in plan.processing.items():
                params["processing"][group].update(values)
            front.front_params = json.dumps(params)
            front.acq_nb_frames = plan.nb_frames
            front.acq_expo_time = plan.expo_time_s
            front.latency_time = plan.latency_s
            rows, cols = plan.roi
            region = [cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start]
            front.statistics_rois = json.dumps([region])
            front.saving_enabled = True
            front.saving_directory = str(folder)
            front.saving_prefix = PREFIX
            front.saving_compression = "bshuf_lz4"
            prepare_patiently(front, self._proxy)
            self._run = self._proxy(front.current_run_device)

    def run(self, show: Callable[[Progress, float], None]) -> Outcome:
        """Acquire, and look at frames meanwhile; ``show`` is told progress and time."""
        with _refusals("The acquisition was broken off"):
            cursor = self._run.openCursor(STREAM)
            self._front.startAcq()
            started_s = time.monotonic()
            samples = [(0.0, Progress())]
            records: list[NDArray[Any]] = []
            changed_s = look_s = 0.0
            while True:
                ended = self._run.phase.name in _ENDED  # first, so that what follows is the last
                progress, now_s = self._progress(), time.monotonic() - started_s
                if progress != samples[-1][1]:
                    changed_s = now_s
                    samples.append((now_s, progress))
                show(progress, now_s)
                records.append(unpack(self._run.readCursor(cursor)[1])[1]["records"])
                if now_s >= look_s or ended:
                    self._look()
                    look_s = now_s + LIVE_EVERY_S
                if ended:
                    self._run.closeCursor(cursor)
                    return self._outcome(samples, now_s, np.concatenate(records))
                if now_s - changed_s > STALL_S + self._plan.expo_time_s:
                    stuck = self._run.stuck or "no reason is known"
                    raise BusyError(f"Nothing has happened for {STALL_S:g} s: {stuck}")
                time.sleep(POLL_S)

    def _proxy(self, device: str) -> Any:
        proxy = tango.DeviceProxy(f"tango://{self._host}/{device}")
        proxy.ping()  # to set a limit without a connection would hold up this process
        proxy.set_timeout_millis(COMMAND_TIMEOUT_MS)
        return proxy

    def _progress(self) -> Progress:
        tree = json.loads(self._run.progress)
        return Progress(tree["exposed"], tree["received"], tree["processed"], tree["saved"])

    def _look(self) -> None:
        """Read the newest frame, and one from a little earlier by its number."""
        ready = self._run.last_image_ready
        if ready < 0:
            return
        for asked in (-1, max(0, ready - LIVE_DISTANCE)):
            try:
                idx, pixels = decode_image(self._run.getFrame(str(asked))[1])
            except tango.DevFailed as error:  # not there (any more)
                self._live.refused.append(_sentence(error))
                continue
            codes = unpack(self._run.readLedger([idx, idx + 1])[1])[1]["code"]
            if len(codes) and codes[0] not in PRESENT:
                continue  # a frame that is missing is sent as zeros
            self._live.read += 1
            if not self._plan.reference.agrees(idx, pixels):
                self._live.different.append(idx)

    def _outcome(
        self, samples: list[tuple[float, Progress]], duration_s: float, records: NDArray[Any]
    ) -> Outcome:
        results = tuple(self._run.files or ())
        masters = [Path(name) for name in results if name.endswith("_master.h5")]
        if not masters:
            raise Lima2Error(f"The run has no master file; there is: {', '.join(results)}")
        return Outcome(
            progress=samples[-1][1],
            duration_s=duration_s,
            rate_hz=rate_hz(samples),
            warnings=tuple(self._run.troubles or ()),
            live=self._live,
            statistics=_by_frame(records, self._plan.nb_frames),
            master_file=masters[0],
            dataset=DATASET,
            verdict=self._run.verdict,
            results=results,
            notes=tuple(self._front.preflight or ()),
        )


def prepare_patiently(front: Any, proxy: Callable[[str], Any]) -> None:
    """Prepare; once more where a receiver was late and is alive: the first time it loads much.

    Args:
        front: proxy of the control device.
        proxy: makes that of another device.
    """
    try:
        front.prepareAcq()
    except tango.DevFailed as failed:
        if not isinstance(error_of(failed, front.dev_name()), UnreachableError):
            raise
        for receiver in front.receiver_devices or ():
            proxy(receiver).state()  # one that is still busy answers when it is done
        front.prepareAcq()


def _by_frame(records: NDArray[Any], nb_frames: int) -> NDArray[Any]:
    """Each record in the row of its frame; others are zeros, as no statistics of an image are."""
    placed = np.zeros(nb_frames, records.dtype)
    placed[records["frame_idx"]] = records
    return placed


def _sentence(error: tango.DevFailed) -> str:
    """What a device said, for people."""
    return sentence_of(error.args[0].desc)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn errors of Tango into one of the suite."""
    try:
        yield
    except tango.DevFailed as error:
        raise Lima2Error(f"{what}: {_sentence(error)}") from error
