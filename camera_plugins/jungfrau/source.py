"""The frames of one acquisition on one receiver, as the packet engine puts them together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from camera_plugins.jungfrau.backend import first_number
from camera_plugins.jungfrau.engine import EngineSetup, spare_buffers, wanted_buffers
from camera_plugins.jungfrau.params import JungfrauParams
from camera_plugins.jungfrau.wire import FILL, HEADER, header_of
from lima2_core.camera.api import CameraMessage, FrameSource, SourceRequest
from lima2_core.camera.dispatch import Share, frames_share
from lima2_core.clock import Clock
from lima2_core.data.fields import FrameField, fields_dtype
from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.geometry import Affine, Placement
from lima2_core.data.memory import PoolSet
from lima2_core.errors import CameraError, EndOfFrames, PartialFrameError
from lima2_core.ids import FrameIdx
from lima2_core.net import FrameReceiver, Lost, Received

if TYPE_CHECKING:
    from camera_plugins.jungfrau.receiver import JungfrauReceiver

log = logging.getLogger(__name__)

STOP_WAIT_S: Final = 0.6
"""How long an interrupted source waits to be told how many frames the detector exposed."""
NO_MODULE: Final = 0xFFFF
"""Id of a port of which nothing came."""
_TICK_S: Final = 1e-7
_LOOK_S: Final = 0.05
"""How often a quiet source looks whether it has to go on waiting."""


class JungfrauSource(FrameSource):
    """Frames in the order of their numbers, each once; what is missing of them is a `Gap`.

    A frame that lacks packets is kept and marked, discarded, or the end, as ``det.partial_frames``
    says. The sequence ends with its last frame, when the detector was stopped, or when all frames
    are due and nothing has come for ``det.silence_ms``.

    Shapes: (1, modules * rows, 1024) uint16, raw words.
    """

    def __init__(self, receiver: JungfrauReceiver, request: SourceRequest, clock: Clock) -> None:
        params = request.params
        if not isinstance(params, JungfrauParams):
            raise TypeError(f"a JUNGFRAU takes JungfrauParams, not {type(params).__name__}")
        self._receiver = receiver
        self._request = request
        self._params = params
        self._clock = clock
        mode = params.det.dispatch_mode
        self._share: Share = frames_share(mode, request.share)
        self._first = first_number(request.acq_id)
        self._next = int(self._share.receiver)
        """Index of the frame that comes next."""
        self._engine: FrameReceiver | None = None
        self._setup: EngineSetup | None = None
        self._t0_wall_s: float | None = None
        self._due_s: float | None = None
        """When all frames asked for so far are exposed, by the clock."""
        self._triggers = 0
        self._stop_at: int | None = None
        """Frames that the detector exposed, or more than that; None before its stop."""
        self._stop_s: float | None = None
        self._active_s = clock.now_s()
        self._interrupted_s: float | None = None
        self._failure: CameraError | None = None
        self._ended = False
        self._message_lock = threading.Lock()
        self._fields_dtype = fields_dtype(self.frame_fields)

    @property
    def setup(self) -> EngineSetup:
        """What the listeners have to be."""
        if self._setup is None:
            installation = self._receiver.installation
            self._setup = EngineSetup.of(installation, self._params, self._request.share)
        return self._setup

    def resolve(self) -> FrameSpec:
        step = Affine()
        if (place := self.placement) is not None:
            step = Affine.crop(place.row, place.col)
        return FrameSpec(self.setup.shape, np.dtype(np.uint16), "ADU", Affine().then(step))

    def open(self, pools: PoolSet) -> None:
        self._engine = self._receiver.arm(self, pools)

    def wanted_buffers(self, pools: PoolSet) -> int:
        """Slots for the engine."""
        return wanted_buffers(self._params, self.setup, pools)

    def begin(self, engine: FrameReceiver) -> None:
        """Let the engine receive the frames of this source."""
        stride, nb_frames = self._share.n_receivers, self._params.acq.nb_frames
        count = self._share.count(nb_frames) if nb_frames else None
        self._ended = count == 0
        if not self._ended:
            engine.start(self._first + self._next, stride=stride, count=count)

    def lend(self, engine: FrameReceiver) -> None:
        """Take the engine back after another source had it."""
        self._engine = engine

    def close(self) -> None:
        self._receiver.disarm(self)
        self._engine = None

    @property
    def keeps_rows(self) -> bool:
        return True

    @property
    def placement(self) -> Placement | None:
        if not self._params.det.is_partial:
            return None
        setup = self.setup
        modules = self._receiver.installation.modules
        return Placement(setup.modules.start * setup.rows, 0, modules * setup.rows, setup.shape[2])

    @property
    def frame_fields(self) -> tuple[FrameField, ...]:
        setup = self.setup
        mask_bytes = -(-setup.packets // 8)
        return (
            FrameField("frame_number", np.dtype("<u8"), doc="number that the detector gave"),
            FrameField("bunch_id", np.dtype("<u8"), doc="as the detector received it"),
            FrameField(
                "detector_time",
                np.dtype("<u8"),
                unit="100 ns",
                doc="start of the exposure since that of the measurement",
            ),
            FrameField(
                "daq_info",
                np.dtype("<u4"),
                doc="bits: 0 high gain G0, 1 fixed G1, 2 fixed G2, 12 forced to G1, 13 forced to "
                "G2, 8-11 storage cell, 16-23 event code",
            ),
            FrameField("packets", np.dtype("<u4"), doc="packets that came, of all ports"),
            FrameField(
                "packet_mask",
                np.dtype("u1"),
                (len(setup.addresses), mask_bytes),
                doc="by port, bit p of the bytes (lowest first) = packet p came",
            ),
            FrameField(
                "module_ids",
                np.dtype("<u2"),
                (len(setup.addresses),),
                doc="by port, of the module that sent it; 65535 = nothing of the port came",
            ),
        )

    @property
    def fill(self) -> float:
        return FILL

    def spare_frames(self, pools: PoolSet) -> int:
        return spare_buffers(self.wanted_buffers(pools), self.setup, pools)

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._receiver.remarks(self.setup)

    def expected_frames(self) -> int | None:
        total, stop_at = self._params.acq.nb_frames, self._stop_at
        if self._stop_s is not None and stop_at is None:
            return None  # stopped, and the detector does not know where
        if stop_at is not None:
            total = min(total, stop_at) if total else stop_at
        elif not total:
            return None
        return self._share.count(total)

    def deliver(self, message: CameraMessage) -> None:
        if message.acq_id != self._request.acq_id:
            return
        with self._message_lock:
            now_s, acq = self._clock.now_s(), self._params.acq
            if message.kind == "start":
                self._t0_wall_s = float(message.values["t0_wall_s"])
                if acq.trigger_mode == "internal" and acq.nb_frames:
                    self._due_s = now_s + acq.nb_frames * acq.period_s
            elif message.kind == "trigger":
                self._triggers = max(self._triggers, int(message.values["count"]))
                if 0 < acq.nb_frames <= self._triggers * acq.nb_frames_per_trigger:
                    self._due_s = now_s + acq.nb_frames_per_trigger * acq.period_s
            elif message.kind == "stop":
                exposed = int(message.values["nb_exposed"])
                # A detector that does not know: whatever has come is all there is.
                self._stop_at = exposed if exposed >= 0 else None
                self._stop_s = now_s
        self._wake()

    def interrupt(self) -> None:
        if self._interrupted_s is None:
            self._interrupted_s = self._clock.now_s()
        self._wake()

    def next_frames(self, timeout_s: float) -> Sequence[Frame | Gap]:
        until_s = self._clock.now_s() + timeout_s
        while True:
            engine = self._engine
            if self._failure is not None:
                raise self._failure
            if self._ended or engine is None or not self._receiver.owns(self):
                raise EndOfFrames
            left_s = until_s - self._clock.now_s()
            items = self._converted(engine.next_frames(max(0.0, min(left_s, _LOOK_S))))
            now_s = self._clock.now_s()
            if items:
                self._active_s = now_s
            if engine.over:
                self._ended = True
            elif self._is_over(now_s):
                items += self._converted(engine.stop())
                items += self._tail()
                self._ended = True
            if items or now_s >= until_s:
                return items

    def _wake(self) -> None:
        if self._engine is not None:
            self._engine.wake()

    def _is_over(self, now_s: float) -> bool:
        """Whether nothing more can come, although not all frames are there."""
        if self._stop_s is not None:
            return True
        if self._interrupted_s is not None:
            return now_s >= self._interrupted_s + STOP_WAIT_S
        due_s = self._due_s
        if due_s is None or now_s < due_s:
            return False
        silence_s = max(self._params.det.silence_ms * 1e-3, 2 * self._params.acq.period_s)
        return now_s - max(self._active_s, due_s) >= silence_s

    def _tail(self) -> list[Frame | Gap]:
        """Frames at the end of which nothing came, if it is known that there were some."""
        expected = self.expected_frames()
        if expected is None:
            return []
        if self._interrupted_s is not None and self._stop_at is None:
            return []
        end = int(self._share.receiver) + expected * self._share.n_receivers
        gaps: list[Frame | Gap] = [
            Gap(FrameIdx(idx), Validity.PACKET_LOSS, "nothing of it came")
            for idx in range(self._next, end, self._share.n_receivers)
        ]
        self._next = max(self._next, end)
        return gaps

    def _converted(self, received: Sequence[Received | Lost]) -> list[Frame | Gap]:
        items: list[Frame | Gap] = []
        for one in received:
            if self._failure is not None:
                break
            if isinstance(one, Lost):
                items += self._lost(one)
            else:
                items.append(self._frame(one))
        return items

    def _lost(self, lost: Lost) -> list[Gap]:
        stride = self._share.n_receivers
        first = lost.number - self._first
        self._next = first + lost.count * stride
        detail = (
            "there was no buffer for it"
            if lost.cause is Validity.OVERRUN
            else "none of its packets came"
        )
        return [Gap(FrameIdx(first + n * stride), lost.cause, detail) for n in range(lost.count)]

    def _frame(self, received: Received) -> Frame | Gap:
        idx = FrameIdx(received.number - self._first)
        self._next = idx + self._share.n_receivers
        validity = Validity.VALID
        if not received.complete:
            validity = Validity.PARTIAL
            text = f"{received.packets} of {received.mask.size} packets came"
            policy = self._params.det.partial_frames
            if policy != "keep":
                if policy == "fail":
                    self._failure = PartialFrameError(
                        f"frame {idx} is incomplete, {text}, and det.partial_frames is fail",
                        frame_idx=idx,
                    )
                cause = Validity.OVERRUN if received.overrun else Validity.PACKET_LOSS
                return Gap(idx, cause, text)
        data = received.lease.array(self.setup.shape, np.uint16)
        header = header_of(received.ports["header"][int(np.argmax(received.ports["packets"]))])
        return Frame(
            idx,
            data,
            received.lease,
            keepable=False,
            timestamp_s=self._timestamp_s(idx, header, received),
            validity=validity,
            fields=self._fields(header, received),
        )

    def _fields(self, header: np.void, received: Received) -> np.void:
        record: NDArray[np.void] = np.zeros(1, self._fields_dtype)
        record["frame_number"] = received.number
        record["bunch_id"] = header["bunch_id"]
        record["detector_time"] = header["timestamp_100ns"]
        record["daq_info"] = header["daq_info"]
        record["packets"] = received.packets
        record["packet_mask"] = np.packbits(received.mask, axis=1, bitorder="little")
        ports = received.ports
        ids = np.ascontiguousarray(ports["header"]).view(HEADER)["module_id"].reshape(-1)
        record["module_ids"] = np.where(ports["packets"] > 0, ids, NO_MODULE)
        told: np.void = record[0]
        return told

    def _timestamp_s(self, idx: int, header: np.void, received: Received) -> float:
        """Start of the exposure: by the detector's clock if it has one, else by the arrival."""
        ticks = int(header["timestamp_100ns"])
        if self._t0_wall_s is not None and (ticks or not idx):
            return self._t0_wall_s + ticks * _TICK_S
        return received.first_ns * 1e-9 - self._params.acq.expo_time_s
