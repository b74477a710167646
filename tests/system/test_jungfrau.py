"""A whole JUNGFRAU system: emulator, UDP, receivers, files, front; round robin and parts."""

import h5py
import numpy as np
import pytest

from client import MasterFile, Validity
from tests.system.jungfrau_site import JungfrauSite, numbered

DET = "acquisition.det."
ROWS = 64


@pytest.fixture(scope="module")
def quad(tmp_path_factory):
    """Four modules, four receivers."""
    with JungfrauSite(tmp_path_factory.mktemp("quad"), 4, modules=4) as site:
        yield site


def lima_of(site, **changes):
    lima = site.client(
        {
            DET + "readout_rows": ROWS,
            DET + "nb_buffers": 64,
            **{DET + name: value for name, value in changes.items()},
        }
    )
    return lima


def test_round_robin_and_parts_over_four_receivers_give_the_same_master_file(quad, tmp_path):
    contents = {}
    for mode in ("round_robin", "partial_frame"):
        lima = lima_of(quad, dispatch_mode=mode)
        run = lima.acquire(nb_frames=21, exposure_s=0.01, save_to=tmp_path, prefix=mode)

        assert run.check().verdict == "all 21 frames are valid"
        with MasterFile(run.master_file) as master:
            contents[mode] = [frame.data for frame in master]
    for idx, (one, other) in enumerate(zip(*contents.values(), strict=True)):
        whole = numbered(idx, 4, ROWS)
        assert np.array_equal(np.squeeze(one), whole)
        assert np.array_equal(np.squeeze(other), whole)
