"""From the control part of a camera to its receiver parts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from lima2_core.camera.api import CameraMessage
from lima2_core.errors import CameraError, Lima2Error, ParamError
from lima2_core.flow.channel import Channel, ChannelClosedError
from lima2_core.ids import AcqId
from lima2_core.worker import Worker

log = logging.getLogger(__name__)

Deliver = Callable[[CameraMessage], None]


class FanOut:
    """A camera link with one queue and one thread per receiver, so that none waits for another.

    A receiver that cannot be reached is reported to ``on_lost`` with the reason; the message to
    it is dropped, the others get theirs. One that fails with anything but a `Lima2Error` gets no
    more messages.
    """

    def __init__(
        self, targets: Mapping[str, Deliver], on_lost: Callable[[str, Lima2Error], None]
    ) -> None:
        self._on_lost = on_lost
        self._queues: dict[str, Channel[CameraMessage]] = {}
        self._workers: list[Worker] = []
        for name, deliver in targets.items():
            queue: Channel[CameraMessage] = Channel(10_000)
            self._queues[name] = queue
            serve = partial(self._serve, name, queue, deliver)
            self._workers.append(Worker(f"link-{name}", serve, partial(self._broken, name, queue)))

    @property
    def receivers(self) -> Sequence[str]:
        """Names of the receivers, in the order of their indices."""
        return tuple(self._queues)

    def broadcast(self, message: CameraMessage) -> None:
        for queue in self._queues.values():
            with suppress(ChannelClosedError):  # given up, and reported
                queue.send([message])

    def close(self) -> None:
        """Deliver what is queued, and end."""
        for queue in self._queues.values():
            queue.close()
        for worker in self._workers:
            worker.join(5.0)

    def _serve(self, name: str, queue: Channel[CameraMessage], deliver: Deliver) -> None:
        while True:
            try:
                _, messages = queue.receive(1)
            except ChannelClosedError:
                return
            try:
                deliver(messages[0])
            except Lima2Error as error:
                self._on_lost(name, error)

    def _broken(self, name: str, queue: Channel[CameraMessage], error: BaseException) -> None:
        log.error("the link to %s broke off", name, exc_info=error)
        queue.break_off()
        self._on_lost(name, CameraError(f"the link broke off: {type(error).__name__}: {error}"))


def to_text(message: CameraMessage) -> str:
    """A message as JSON, to cross processes."""
    return json.dumps(
        {"acq_id": message.acq_id, "kind": message.kind, "values": dict(message.values)}
    )


def from_text(text: str) -> CameraMessage:
    """Read what `to_text` wrote.

    Raises:
        ParamError: it is something else.
    """
    try:
        tree = json.loads(text)
        acq_id, kind, values = tree["acq_id"], tree["kind"], tree["values"]
        plain = all(isinstance(value, int | float | str) for value in values.values())
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ParamError(f"this is no message of a camera: {error}", path="message") from error
    if not (isinstance(acq_id, str) and isinstance(kind, str) and plain):
        raise ParamError("this is no message of a camera", path="message")
    return CameraMessage(AcqId(acq_id), kind, values)
