"""Stand-ins for what a receiver meets: sinks, a pipeline, an installation of plugins.

They do what the test tells them, and remember what was done to them::

    camera, pipeline = FakeCamera(), FakePipeline()
    with installed(pipelines={"LimaProcessingLegacy": pipeline.plugin}):
        service = ReceiverService("r0", camera.plugin, CameraEnv(), Share, settings)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from lima2_core import registry
from lima2_core.data.frame import Frame, Gap
from lima2_core.errors import PluginError
from lima2_core.flow.pipeline import OUTPUT, Counter, Lane, Pipeline, Stage
from lima2_core.flow.plugin import BuildContext, PipelinePlugin, SourceInfo
from lima2_core.flow.sink import Row, Sink
from lima2_core.flow.tap import Tap
from lima2_core.flow.task import Task
from lima2_core.schema import ParamsModel

LIMIT_S = 20.0
"""How long a stand-in waits for the test, or the test for something to happen; only what hangs
takes so long, and a busy computer may stand still for seconds."""


def eventually(predicate: Callable[[], object], timeout_s: float = LIMIT_S) -> bool:
    """Whether ``predicate`` becomes true within ``timeout_s``; asked every millisecond."""
    never = threading.Event()
    until_s = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() >= until_s:
            return False
        never.wait(0.001)
    return True


@contextmanager
def installed(
    cameras: Mapping[str, object] | None = None, pipelines: Mapping[str, object] | None = None
) -> Iterator[None]:
    """Let `lima2_core.registry` find these plugins, and no others."""
    plugins = {registry.CAMERAS: dict(cameras or {}), registry.PIPELINES: dict(pipelines or {})}

    def names(group: str) -> tuple[str, ...]:
        return tuple(sorted(plugins.get(group, {})))

    def load(group: str, name: str) -> object:
        if name not in plugins.get(group, {}):
            raise PluginError(f"no plugin {name!r} in {group}", group=group, name=name)
        return plugins[group][name]

    with mock.patch.multiple(registry, names=names, load=load):
        yield


# Sinks


@dataclass(frozen=True, slots=True)
class CollectedRow:
    """A `Row` as it came: the pixels of a frame are copied, so that no memory stays lent."""

    local: int
    idx: int
    value: object


class CollectSink(Sink):
    """Remembers the rows and the calls; fails where the test wants it to.

    Args:
        fail_at: ``local`` of the row whose `write` raises ``error``; -1 for none.
        fail_in: name of another method that raises it.
    """

    name = "collect"

    def __init__(
        self, fail_at: int = -1, error: Exception | None = None, fail_in: str = ""
    ) -> None:
        self.rows: list[CollectedRow] = []
        self.calls: list[str] = []
        """Names of the methods in the order of the calls; repeated ones once. Without `idle`, which
        is called whenever the test or the computer let the sink wait."""
        self.idle_at: list[int] = []
        """How many rows had come, at each call of `idle`."""
        self.on_write: Callable[[], object] = lambda: None
        """Called before rows are taken."""
        self._fail_at = fail_at
        self._fail_in = fail_in
        self._error = error if error is not None else RuntimeError("the medium is gone")

    def open(self) -> None:
        self._note("open")

    def write(self, rows: Sequence[Row]) -> None:
        self.on_write()
        self._note("write")
        for row in rows:
            if row.local == self._fail_at:
                raise self._error
            value = row.value.data.copy() if isinstance(row.value, Frame) else row.value
            self.rows.append(CollectedRow(row.local, row.idx, value))

    def idle(self) -> None:
        self.idle_at.append(len(self.rows))

    def close(self) -> None:
        self._note("close")

    def abort(self) -> None:
        self._note("abort")

    @property
    def idxs(self) -> list[int]:
        """Index of each row."""
        return [row.idx for row in self.rows]

    @property
    def gaps(self) -> list[int]:
        """Index of each row where a gap stands."""
        return [row.idx for row in self.rows if isinstance(row.value, Gap)]

    def _note(self, call: str) -> None:
        if self.calls[-1:] != [call]:
            self.calls.append(call)
        if call == self._fail_in:
            raise self._error


class GatedSink(CollectSink):
    """A `CollectSink` that keeps each batch waiting until the test opens the gate.

    Threads: `write` from one thread at a time, the rest from the test.
    """

    name = "gated"

    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Event()
        self._holding = threading.Event()

    def write(self, rows: Sequence[Row]) -> None:
        self._holding.set()
        if not self._gate.wait(4 * LIMIT_S):
            raise TimeoutError("nobody opened the gate")
        super().write(rows)

    def wait_until_holding(self, timeout_s: float = LIMIT_S) -> bool:
        """Wait for the first batch; whether it came."""
        return self._holding.wait(timeout_s)

    def open_gate(self) -> None:
        """Let everything pass from now on."""
        self._gate.set()


# A pipeline


class FakePipelineParams(ParamsModel):
    """Parameters of the stand-in."""

    class_name: str = "LimaProcessingLegacy"
    tag: int = 0


class FakePipeline:
    """A pipeline whose parts the test gives; every run gets sinks of its own.

    Threads: from the test, between the commands of a service.
    """

    def __init__(self) -> None:
        self.tasks: tuple[Task, ...] = ()
        self.make_sink: Callable[[], Sink] = CollectSink
        self.activate: Callable[[], None] | None = None
        self.refuse: Exception | None = None
        """What building raises."""
        self.queue_frames = 100
        self.lane_depth = 16
        self.sinks: list[Sink] = []
        """One for each run that was built."""
        self.contexts: list[BuildContext] = []
        """What they were built for."""
        self.plugin = PipelinePlugin(
            "LimaProcessingLegacy",
            FakePipelineParams,
            self._build,
            sources=(SourceInfo("frame", "getFrame", "source"),),
        )

    def _build(self, params: FakePipelineParams, context: BuildContext) -> Pipeline:
        if self.refuse is not None:
            raise self.refuse
        sink, tap, source = self.make_sink(), Tap(context.spec, 4), Counter()
        self.sinks.append(sink)
        self.contexts.append(context)
        lanes = (
            Lane("tap", tap, OUTPUT),
            Lane("save", sink, OUTPUT, depth=self.lane_depth),
        )
        return Pipeline(
            context.spec,
            context.spec,
            Stage(self.tasks, lanes, (source,)),
            taps={"frame": tap},
            counters={"nb_frames_source": source},
            activate=self.activate,
            queue_frames=self.queue_frames,
        )
