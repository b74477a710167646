"""What crosses processes comes out as it went in; what is something else is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lima2_core.data.geometry import Placement
from lima2_core.data.news import dtype_of, pack, unpack
from lima2_core.data.rows import ROW_RECORD
from lima2_core.errors import ParamError
from lima2_core.ids import AcqId
from lima2_core.system.ports import RunOrder, RunStatus
from lima2_core.system.wire import (
    description_from_tree,
    description_to_tree,
    order_from_tree,
    order_to_tree,
    status_from_tree,
    status_to_tree,
)
from lima2_core.testing.system_script import SUMS, describe, rows, sums

NESTED = np.dtype(
    [("frame_idx", "<i4"), ("at", [("row", "<f4"), ("col", "<f4")]), ("values", "<f8", (2, 3))]
)
ORDER = RunOrder(AcqId("a"), {"acq": {"nb_frames": 3}}, {"saving": {"enabled": True}}, True)
STATUS = RunStatus(
    state="running",
    finished=False,
    received=7,
    lost=1,
    counters={"nb_frames_source": 8},
    flushed={"frame": 4},
    queues={"camera": (3, 100), "saving": (0, 64)},
    error="the disk is full",
    error_code="storage",
    memory_bytes=2**33,
    memory_limit_bytes=2**34,
)


def over_the_wire(tree):
    return json.loads(json.dumps(tree))


def test_orders_cross():
    assert order_from_tree(over_the_wire(order_to_tree(ORDER))) == ORDER


def test_what_files_tell_of_frames_crosses():
    description = describe(saved=("frame",))
    files = replace(
        description.saved["frame"].files,
        marks={"no_value": -32768, "saturated_value": math.inf},
        collections={"photon_conversion": {"energy_kev": 12.4, "module_ids": [3, 4]}},
        frame_fields={"bunch_id": {"dtype": "<u8", "shape": [2, 3], "unit": "", "doc": "x"}},
    )
    saved = {"frame": replace(description.saved["frame"], files=files)}
    description = replace(description, saved=saved)

    tree = over_the_wire(description_to_tree(description))

    assert description_from_tree(tree).saved == saved


def test_an_order_is_not_deferred_unless_it_says_so():
    tree = order_to_tree(ORDER)
    del tree["deferred"]

    assert not order_from_tree(tree).deferred


@pytest.mark.parametrize("strip", [None, (1, 3)])
def test_descriptions_cross(strip):
    description = describe(
        saved=["frame", "input_frame"],
        streams={SUMS: 20},
        depth=4,
        keeps_rows=False,
        strip=strip,
        reaches=strip is not None,
    )

    assert description_from_tree(over_the_wire(description_to_tree(description))) == description


def test_statuses_cross():
    assert status_from_tree(over_the_wire(status_to_tree(STATUS))) == STATUS


@pytest.mark.parametrize("dtype", [ROW_RECORD, NESTED, np.dtype("<u2"), np.dtype(">f8")])
def test_types_cross(dtype):
    described = np.lib.format.dtype_to_descr(dtype)

    assert dtype_of(over_the_wire(described)) == dtype


def test_news_cross():
    arrays = {"ledger": rows(0, 4, 2), SUMS: sums(0, 4, 2, per_frame=3), "none": sums()}
    arrays["nested"] = np.ones(3, NESTED)

    tree, told = unpack(pack({"status": status_to_tree(STATUS)}, arrays))

    assert status_from_tree(tree["status"]) == STATUS
    assert told.keys() == arrays.keys()
    for name, array in arrays.items():
        assert told[name].dtype == array.dtype
        np.testing.assert_array_equal(told[name], array)


def test_every_second_element_crosses_as_well():
    array = np.arange(10)[::2]

    np.testing.assert_array_equal(unpack(pack({}, {"a": array}))[1]["a"], array)


def broken_blocks():
    block = pack({"a": 1}, {"rows": rows(0, 1)})
    return {
        "empty": b"",
        "short": block[:6],
        "no header": block[:12],
        "truncated": block[:-1],
        "other magic": b"XXXX" + block[4:],
        "no JSON": block[:8] + b"\xff" * (len(block) - 8),
        "objects": pack({}, {"a": np.zeros(1)}).replace(b'"<f8"', b'"|O8"'),
    }


@pytest.mark.parametrize("kind", broken_blocks())
def test_a_block_of_something_else_is_refused(kind):
    with pytest.raises(ParamError, match="no block of news"):
        unpack(broken_blocks()[kind])


@pytest.mark.parametrize("tree", [{}, {"acq_id": "a", "acquisition": None, "processing": {}}])
def test_an_order_that_lacks_something_is_refused(tree):
    with pytest.raises(ParamError, match="no order"):
        order_from_tree(tree)


@pytest.mark.parametrize("fill", [-32768, float("nan")])
def test_where_processed_parts_lie_crosses(fill):
    place = Placement(3, 4, 10, 20)
    description = replace(describe(strip=(1, 3)), output_placement=place, output_fill=fill)

    arrived = description_from_tree(over_the_wire(description_to_tree(description)))

    assert arrived.output_placement == place
    assert arrived.output_fill == pytest.approx(fill, nan_ok=True)
    assert type(arrived.output_fill) is type(fill)


ONE_SUM = {SUMS: {"dtype": "<f8", "rows_per_frame": 1}}


@pytest.mark.parametrize(
    "changed",
    [
        {"input_spec": {}},
        {"streams": {"a": {"dtype": "what", "rows_per_frame": 1}}},
        {"saved": {"a": {"spec": {}}}},
        {"placement": {"row": 1}},
        {"output_placement": {"row": 1}},
        {"depth": "deep"},
        {"reaches": {"sums": [3]}},
        {"reaches": {"others": [[0, 1]]}},
        {"streams": ONE_SUM, "reaches": {SUMS: [[0, 2]]}},
    ],
)
def test_a_description_that_makes_no_sense_is_refused(changed):
    tree = {**description_to_tree(describe()), **changed}

    with pytest.raises(ParamError, match="describes no run"):
        description_from_tree(tree)


@pytest.mark.parametrize("changed", [{"queues": {"camera": 3}}, {"unknown": 1}, {"queues": None}])
def test_a_status_that_makes_no_sense_is_refused(changed):
    with pytest.raises(ParamError, match="no status"):
        status_from_tree({**status_to_tree(STATUS), **changed})
