"""Ports to services in the same process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lima2_core.data.frame import Frame
from lima2_core.errors import NotAvailableError
from lima2_core.ids import AcqId
from lima2_core.schema import json_tree
from lima2_core.service.control import ControlService
from lima2_core.service.receiver import ReceiverService
from lima2_core.service.run import Run
from lima2_core.system.ports import (
    ControlStatus,
    ReceiverStatus,
    RunDescription,
    RunNews,
    RunOrder,
)
from lima2_core.system.reporter import RunReporter, describe


class LocalRun:
    """A run of a receiver in this process."""

    def __init__(self, service: ReceiverService, run: Run) -> None:
        self._service = service
        self._run = run
        self._reporter = RunReporter(run)

    def describe(self) -> RunDescription:
        return describe(self._run)

    def news(self) -> RunNews:
        return self._reporter.news(self._service.memory(), self._service.pools.limit_bytes)

    def frame(self, source: str, idx: int, step: int = 1) -> Frame:
        tap = self._run.pipeline.taps.get(source)
        if tap is None:
            raise NotAvailableError(f"{source!r} is not kept in this run", source=source)
        frame = tap.get(idx)
        return frame if step <= 1 else replace(frame, data=frame.data[:, ::step, ::step])

    def close(self) -> None:
        self._reporter.close()


class LocalReceiver:
    """A receiver in this process."""

    def __init__(self, service: ReceiverService) -> None:
        self.name = service.name
        self._service = service

    def prepare(self, order: RunOrder) -> LocalRun:
        requested = self._service.requested
        requested.ask_acquisition(json.dumps(dict(order.acquisition)))
        requested.ask_processing(json.dumps(dict(order.processing)))
        prepared = self._service.prepare(order.acq_id, at_leisure=False, deferred=order.deferred)
        return LocalRun(self._service, prepared.run)

    def start(self) -> None:
        self._service.start()

    def stop(self) -> None:
        self._service.stop()

    def reset(self) -> None:
        self._service.reset()

    def process(self, acq_id: AcqId) -> None:
        self._service.process(acq_id)

    def erase(self, acq_id: AcqId) -> None:
        self._service.erase(acq_id)

    def status(self) -> ReceiverStatus:
        error, run = self._service.last_error, self._service.current
        return ReceiverStatus(
            self._service.state,
            str(error) if error is not None else "",
            run.acq_id if run is not None else None,
        )


class LocalControl:
    """A control in this process."""

    def __init__(self, service: ControlService) -> None:
        self.name = service.name
        self._service = service

    def prepare(self, acq_id: AcqId, acquisition: Mapping[str, Any]) -> Mapping[str, Any]:
        self._service.request_acquisition(json.dumps(dict(acquisition)))
        self._service.prepare(acq_id)
        return json_tree(self._service.applied_text)

    def start(self) -> None:
        self._service.start()

    def trigger(self) -> None:
        self._service.check_triggerable()
        self._service.trigger()

    def stop(self) -> None:
        self._service.stop()

    def close(self) -> None:
        self._service.close_acquisition()

    def reset(self) -> None:
        self._service.reset()

    def status(self) -> ControlStatus:
        error = self._service.last_error
        return ControlStatus(
            self._service.state,
            self._service.nb_frames_acquired,
            str(error) if error is not None else "",
            self._service.acq_id,
            self._service.doubt,
        )

    def detector_info(self) -> Mapping[str, Any]:
        return self._service.detector_info()
