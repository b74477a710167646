"""One acquisition of the demonstration, driven through the conductor as any client does."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lima2_core.errors import BusyError, Lima2Error
from tango_servers.local.demo_outcome import (
    LIVE_DISTANCE,
    LIVE_EVERY_S,
    PIPELINE,
    POLL_S,
    PREFIX,
    SOURCE,
    STALL_S,
    Live,
    Outcome,
    rate_hz,
)
from tango_servers.local.demo_plan import Plan
from tango_servers.local.demo_progress import Progress
from tango_servers.local.processes import LOOPBACK


class Acquisition:
    """A session with the conductor; `prepare`, then `run`.

    Raises:
        Lima2Error: from every method, where the system refuses.
    """

    def __init__(self, plan: Plan, port: int) -> None:
        from lima2.client import services

        self._plan = plan
        self._services = services.init(LOOPBACK, port)
        self._id: Any = None
        self._live = Live()
        # A frame that is not to be had is told in the report; without a handler Python prints it.
        logging.getLogger("lima2").addHandler(logging.NullHandler())

    def prepare(self, folder: Path) -> None:
        """Send the parameters; files go to ``folder``."""
        plan, services = self._plan, self._services
        with _refusals("The acquisition cannot be prepared"):
            services.handshake()
            control, receiver = services.acquisition.default_params()
            for params in (control, receiver):
                for group, values in plan.acquisition.items():
                    params[group].update(values)
            processing = services.pipeline.default_params(PIPELINE)
            processing["saving"].update(
                enabled=True,
                base_path=str(folder),
                filename_prefix=PREFIX,
                compression="bshuf_lz4",
                include_frame_idx=True,
            )
            processing["statistics"].update(enabled=True, rect_rois=[plan.roi_params])
            self._id = services.acquisition.prepare(control, receiver, processing)

    def run(self, show: Callable[[Progress, float], None]) -> Outcome:
        """Acquire, and look at frames meanwhile; ``show`` is told progress and time."""
        with _refusals("The acquisition was broken off"):
            self._services.acquisition.start()
            started_s = time.monotonic()
            samples = [(0.0, Progress())]
            changed_s = look_s = 0.0
            while True:
                warnings = self._ended()  # asked first, so that the counts below are the last
                (progress, in_turn), now_s = self._progress(), time.monotonic() - started_s
                if progress != samples[-1][1]:
                    changed_s = now_s
                    samples.append((now_s, progress))
                show(progress, now_s)
                if in_turn and (now_s >= look_s or warnings is not None):
                    self._look(in_turn)
                    look_s = now_s + LIVE_EVERY_S
                if warnings is not None:
                    return self._outcome(samples, now_s, warnings)
                if now_s - changed_s > STALL_S + self._plan.expo_time_s:
                    raise BusyError(f"Nothing has happened for {STALL_S:g} s: {progress}")
                time.sleep(POLL_S)

    def _ended(self) -> tuple[str, ...] | None:
        """None while it runs, then the warnings of the conductor."""
        from lima2.client.services import AcquisitionFailure, AcquisitionSuccess

        result = self._services.acquisition.result()
        if isinstance(result, AcquisitionFailure):
            errors = (*result.acquisition_errors, *result.processing_errors, *result.warnings)
            raise Lima2Error(f"The acquisition failed: {'; '.join(errors)}")
        return tuple(result.warnings) if isinstance(result, AcquisitionSuccess) else None

    def _progress(self) -> tuple[Progress, int]:
        """The progress, and how many of the first frames have been processed without a hole."""
        acquisition = self._services.acquisition
        counters = self._services.pipeline.pipeline(self._id)["progress_counters"]
        processed = counters["nb_frames_processed"]
        progress = Progress(
            acquired=acquisition.nb_frames_acquired(),
            received=acquisition.nb_frames_xferred(),
            processed=processed["sum"],
            saved=counters["nb_frames_saved"]["sum"],
        )
        return progress, processed["min"] * len(processed["counters"])  # they take turns

    def _look(self, in_turn: int) -> None:
        """Read the newest frame, and one from a little earlier by its number."""
        for asked in (-1, max(0, in_turn - LIVE_DISTANCE)):
            try:
                frame = self._services.pipeline.get_frame(asked, SOURCE, self._id)
            except RuntimeError as error:  # not there (any more)
                self._live.refused.append(_reason(error))
                continue
            self._live.read += 1
            # From a file the axis of the bands is missing where there is one band only.
            pixels = np.asarray(getattr(frame, "data", ()))
            reference, shape = self._plan.reference, self._plan.shape
            if pixels.size != np.prod(shape) or not reference.agrees(
                frame.idx, pixels.reshape(shape)
            ):
                self._live.different.append(frame.idx)

    def _outcome(
        self,
        samples: list[tuple[float, Progress]],
        duration_s: float,
        warnings: tuple[str, ...],
    ) -> Outcome:
        chunks = list(self._services.pipeline.reduced_data("roi_stats", 0, self._id))
        file, dataset = self._services.pipeline.master_files(self._id)[SOURCE]
        return Outcome(
            progress=samples[-1][1],
            duration_s=duration_s,
            rate_hz=rate_hz(samples),
            warnings=warnings,
            live=self._live,
            statistics=np.concatenate(chunks) if chunks else np.empty(0),
            master_file=Path(file),
            dataset=dataset,
        )


def _reason(error: RuntimeError) -> str:
    """The sentence of the server in what the client made of it, or the first line of that."""
    sentence = re.search(r'"what": "((?:[^"\\]|\\.)*)"', str(error))
    return sentence[1] if sentence else str(error).partition("\n")[0]


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn what the client library raises into an error of the suite."""
    from lima2.common import exceptions
    from requests import RequestException

    foreign: list[type[Exception]] = [exceptions.Lima2Error, *exceptions.by_type, RequestException]
    # Of the client itself: no connection, or an answer that it does not understand.
    foreign.append(RuntimeError)
    try:
        yield
    except tuple(foreign) as error:
        raise Lima2Error(f"{what}: {error}") from error
