"""Files of sparse frames as the known clients read them, by the code of these clients."""

import asyncio
from types import SimpleNamespace

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest
from lima2.client._utils import hdf5_get_frame
from lima2.common.types import FrameType
from lima2.conductor.processing.master_file import build_layout_sparse, write_datasets_sparse

from lima2_core.data.frame import Validity
from tests.integration.bench import Bench, saving, spec_of

GROUPS = {
    "nx_entry_name": "entry_0000",
    "nx_instrument_name": "instrument",
    "nx_detector_name": "detector",
}
DETECTOR = "/".join(GROUPS.values())
NB_FRAMES, PER_FILE = 10, 4


class Table:
    """What the conductor knows of the frames of one receiver."""

    async def iterate(self):
        for local in range(NB_FRAMES):
            yield SimpleNamespace(local_idx=local)


@pytest.fixture
def raw():
    return np.random.default_rng(3).poisson(0.1, (NB_FRAMES, 1, 12, 15)).astype("u2")


@pytest.fixture
def folder(raw, tmp_path):
    """The files of a run in which frame 5 is missing."""
    sent = list(raw)
    sent[5] = Validity.OVERRUN
    raw[5] = 0
    tree = {"saving_sparse": saving(tmp_path, nb_frames_per_file=PER_FILE)}
    bench = Bench(tree, spec_of(raw), n_frames=NB_FRAMES).run(sent)
    assert bench.failures == []
    return tmp_path


def test_a_client_reads_every_frame_as_a_row(folder, raw):
    for idx in range(NB_FRAMES):
        path = folder / f"lima2_sparse_0_{idx // PER_FILE:05d}.h5"
        found = hdf5_get_frame(
            f"file://{path}:{DETECTOR}/", idx, idx % PER_FILE, FrameType.SPARSE, (1, 12, 15)
        )

        assert np.array_equal(found.densify().data, raw[idx])


def test_the_conductor_makes_its_master_of_the_flat_hits(folder, raw):
    layouts = asyncio.run(
        build_layout_sparse(
            Table(),
            **GROUPS,
            base_path=str(folder),
            filename_prefix="lima2_sparse",
            nb_frames_per_file=PER_FILE,
            pixel_type=np.dtype("u2"),
        )
    )
    with h5py.File(folder / "master.h5", "w") as file:
        write_datasets_sparse(
            file,
            **GROUPS,
            index_layout=layouts.index,
            intensity_layout=layouts.intensity,
            frame_ptr_array=layouts.frame_ptr,
        )

    with h5py.File(folder / "master.h5") as file:
        data = file[f"{DETECTOR}/data"]
        pointers = data["frame_ptr"][()]
        assert len(pointers) == NB_FRAMES + 1
        for idx in range(NB_FRAMES):
            hits = slice(pointers[idx], pointers[idx + 1])
            image = np.zeros(12 * 15, "u2")
            image[data["index"][hits]] = data["intensity"][hits]
            assert np.array_equal(image.reshape(1, 12, 15), raw[idx])
