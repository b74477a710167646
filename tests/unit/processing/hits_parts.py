"""As `master_parts`, for receivers that save hits."""

import h5py
import numpy as np

from lima2_core.data.frame import Frame, Gap
from lima2_core.flow.sink import Row
from lima2_core.ids import AcqId
from processing.saving import FileMetadata
from processing.sinks.hdf5_sparse import SparseSink
from processing.tasks.sparsify import Sparsify
from tests.unit.processing.master_parts import DATA, DETECTOR, Parts


class HitsWriter:
    """The files of one receiver."""

    def __init__(self, params, spec, expected_rows, clock, place, whole):
        self.params = params
        self.spec = spec
        self.rows = 0
        self.task = Sparsify(1.0, place)
        self.task.resolve(spec)
        self.sink = SparseSink(
            params,
            spec,
            FileMetadata(AcqId("0b3e")),
            image_shape=whole,
            expected_rows=expected_rows,
            clock=clock,
        )
        self.sink.open()

    def write(self, idx, pixels, gap):
        value = Gap(idx, gap) if gap else self.task.process(Frame(idx, pixels))
        self.sink.write([Row(self.rows, idx, value)])
        self.rows += 1
        return self.rows - 1


class HitsParts(Parts):
    """Receivers with the hits of frames, or of parts of them; see `Parts`."""

    block = ""

    def told(self):
        return {"hits": True, "threshold": 1.0, "block": self.block}

    def make_writer(self, receiver, spec, expected_rows):
        place = self.placements[receiver] if self.placements else None
        whole = self.spec.shape[1:]
        return HitsWriter(self.params[receiver], spec, expected_rows, self.clock, place, whole)

    def image(self, idx):
        """What frame ``idx`` shows: few hits, in every sixth frame none, in every ninth many."""
        rate = 0.0 if idx % 6 == 5 else 5.0 if idx % 9 == 7 else 0.2
        random = np.random.default_rng(idx)
        return random.poisson(rate, self.spec.shape).astype(self.spec.dtype)


def images_in(path, data=DATA):
    """All frames of a group of hits, as images."""
    with h5py.File(path) as file:
        group = file[data]
        rows, cols = group.attrs["image_shape"]
        pointers = group["frame_ptr"][()]
        assert pointers[0] == 0
        assert pointers[-1] == len(group["index"]) == len(group["intensity"])
        index, intensity = group["index"][()], group["intensity"][()]
    found = np.zeros((len(pointers) - 1, rows * cols), intensity.dtype)
    for n, image in enumerate(found):
        hits = slice(pointers[n], pointers[n + 1])
        assert len(np.unique(index[hits])) == len(index[hits])
        image[index[hits]] = intensity[hits]
    return found.reshape(-1, rows, cols)


def expected(parts, count, gaps=()):
    """What `images_in` shall give."""
    images = [parts.image(idx)[0] * (idx not in gaps) for idx in range(count)]
    return np.array(images).reshape(-1, *parts.spec.shape[1:])


__all__ = ["DATA", "DETECTOR", "HitsParts", "HitsWriter", "expected", "images_in"]
