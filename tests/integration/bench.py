"""A pipeline for frames in memory: built, run, and asked for what came of it."""

import threading

from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import AcquisitionParams
from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.memory import PoolSet
from lima2_core.errors import NotAvailableError
from lima2_core.flow.channel import Channel
from lima2_core.flow.executor import Executor
from lima2_core.flow.plugin import BuildContext
from lima2_core.ids import AcqId
from lima2_core.testing.doubles import LIMIT_S
from processing.pipelines import legacy


def rect(x, y, width, height):
    return {"topleft": {"x": x, "y": y}, "dimensions": {"x": width, "y": height}}


class Bench:
    """Builds a pipeline for frames in memory, runs it, and keeps what came of it."""

    def __init__(self, tree, spec, *, share=None, n_frames=None, plugin=legacy.PLUGIN, **changed):
        self.spec = spec
        self.share = share or Share()
        self.pools = changed.pop("pools", None) or PoolSet(2**30)
        self.workers = changed.pop("workers", 3)
        context = BuildContext(
            acq_id=AcqId("0b3e"),
            spec=spec,
            share=self.share,
            acquisition=AcquisitionParams(),
            pools=self.pools,
            workers=self.workers,
            nb_expected=n_frames,
            **changed,
        )
        self.pipeline = plugin.build(plugin.params.from_tree(tree), context)
        self.cursors = {name: s.cursor() for name, s in self.pipeline.streams.items()}
        self.failures = []
        self.done = threading.Event()

    def idx(self, local):
        return local * self.share.n_receivers + self.share.receiver

    def frame(self, local, data, **details):
        return Frame(self.idx(local), data, timestamp_s=100.0 + local, **details)

    def start(self):
        self.channel = Channel(self.pipeline.queue_frames)
        self.pipeline.open()
        self.executor = Executor(
            self.pipeline, self.channel, self.workers, self.failures.append, self.done.set
        )

    def finish(self):
        self.channel.close()
        assert self.executor.join(LIMIT_S)
        assert self.done.is_set()

    def run(self, images):
        """Send images, or gaps given by their cause; all as local frames 0, 1 ..."""
        self.start()
        for local, image in enumerate(images):
            if isinstance(image, Validity):
                self.channel.send([Gap(self.idx(local), image)])
            else:
                self.channel.send([self.frame(local, image)])
        self.finish()
        return self

    def result(self, idx):
        return self.pipeline.taps["frame"].get(idx)

    def records(self, stream="roi_statistics"):
        return self.cursors[stream].read()


def spec_of(images, **changed):
    return FrameSpec(images.shape[1:], images.dtype, **changed)


def saving(folder, **changed):
    return {"enabled": True, "base_path": str(folder), "nb_frames_per_file": 4, **changed}


def is_kept(tap, idx):
    try:
        return tap.get(idx).idx == idx
    except NotAvailableError:
        return False
