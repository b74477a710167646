"""What servers send and what our client expects are the same thing."""

from dataclasses import fields

import numpy as np
import pytest

from camera_plugins.simulator.params import SimulatorParams
from client import DecodeError, Params, UnreachableError, Validity, wire
from client.frames import OPEN
from client.link import error_of
from client.news import decode_news
from client.progress import Progress
from lima2_core import registry
from lima2_core.data import frame, news
from lima2_core.errors import Lima2Error
from lima2_core.state.system import Phase
from lima2_core.system import ledger, ports, progress
from processing.kernels.regions import ROI_RECORD
from tango_servers import names
from tango_servers.control_device import Lima2Control
from tango_servers.errors import dev_failed
from tango_servers.front_params import front_params, front_schema
from tango_servers.names import RUN_FAMILY, run_device
from tango_servers.run_device import Lima2Run
from tango_servers.states import FrontState

NESTED = np.dtype([("frame_idx", "<i4"), ("hist", "<u4", (3,)), ("at", [("x", "<f4")])])

CONTROL_NAMES = (
    *(wire.PREPARE_WITH, wire.START, wire.START_RUN, wire.TRIGGER, wire.STOP, wire.ABORT),
    *(wire.RESET, wire.PROCESS, wire.ERASE, wire.FRONT_PARAMS, wire.FRONT_STATE, wire.RUN_PHASE),
    *(wire.FRONT_ERROR, wire.CURRENT_RUN, wire.RUNS, wire.RECEIVER_STATES, wire.PREFLIGHT),
    *(wire.FRAMES_RECEIVED, wire.FRAMES_SAVED),
)
RUN_NAMES = (
    *(wire.PHASE, wire.VERDICT, wire.PROGRESS, wire.FILES, wire.PARAMETERS, wire.SOURCES),
    wire.LEDGER_COUNTS,
    *(wire.STREAMS, wire.TROUBLES, wire.STUCK, wire.GET_FRAME, wire.READ_LEDGER),
    *(wire.OPEN_CURSOR, wire.READ_CURSOR, wire.CLOSE_CURSOR),
)


def test_news_come_back_with_every_kind_of_record():
    arrays = {
        "records": np.zeros(4, NESTED),
        "statistics": np.ones(2, ROI_RECORD),
        "none": np.empty(0, np.int64),
        "codes": np.arange(3, dtype=np.uint8),
    }
    arrays["records"]["hist"] = 7

    tree, found = decode_news((news.NEWS, news.pack({"a": [1, None, "ä"]}, arrays)))

    assert tree == {"a": [1, None, "ä"]}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


BLOCK = news.pack({"a": 1}, {"x": np.arange(4)})


@pytest.mark.parametrize(
    "encoded",
    [
        ("DATA_ARRAY", BLOCK),
        (news.NEWS, b""),
        (news.NEWS, b"XXXX" + BLOCK[4:]),
        (news.NEWS, BLOCK[:-1]),
        (news.NEWS, BLOCK[:12]),
        (news.NEWS, BLOCK.replace(b'"<i8"', b'"|O" ')),
        (news.NEWS, BLOCK.replace(b'"arrays"', b'"arrayz"')),
    ],
)
def test_other_blocks_are_refused(encoded):
    with pytest.raises(DecodeError):
        decode_news(encoded)


def test_codes_of_frames_are_the_same():
    ours = {code.name: int(code) for code in Validity}

    assert ours == {code.name: int(code) for code in frame.Validity}
    assert ledger.OPEN == OPEN


def every(kind):
    yield kind
    for one in kind.__subclasses__():
        yield from every(one)


@pytest.mark.parametrize(
    "kind", [one for one in every(Lima2Error) if one.code not in ("child", "closed")]
)
def test_every_error_of_a_server_has_a_class_and_a_remedy(kind):
    values = {"path": "acq.nb"} if kind.code == "param" else {}

    error = error_of(dev_failed(kind("it is so", **values), "x"), "dev")

    assert type(error).code == kind.code
    assert "it is so" in str(error)
    assert error.remedy or kind is Lima2Error


def test_an_unreachable_receiver_is_told_as_such():
    error = error_of(dev_failed(ports.UnreachableError("r1 is silent", device="r1"), "x"), "dev")

    assert isinstance(error, UnreachableError)
    assert error.details["device"] == "r1"


@pytest.mark.parametrize("name", CONTROL_NAMES)
def test_a_control_device_has_what_the_client_asks_for(name):
    assert hasattr(Lima2Control, name)


@pytest.mark.parametrize("name", RUN_NAMES)
def test_the_device_of_a_run_has_what_the_client_asks_for(name):
    assert hasattr(Lima2Run, name)


def test_names_and_words_are_the_same():
    assert wire.FRONT_PARAMS == names.FRONT_PARAMS
    assert (wire.SCHEMA, wire.NO_ERROR) == (names.SCHEMA, names.NO_ERROR)
    assert (wire.NEWS, wire.ERROR_REASON) == (news.NEWS, names.ERROR_REASON)
    assert wire.RUN_FAMILY == RUN_FAMILY
    assert wire.run_device("id00/a/b", "u") == run_device("id00/a/b", "u")
    phases = {phase.name.lower() for phase in Phase}
    assert set(wire.SETTLED_PHASES) == phases - {"prepared", "running", "draining"}
    assert set(wire.END_PHASES) == phases - {"prepared", "running", "draining", "ending"}
    assert {"idle", "fault", "running", "foreign"} <= {state.value for state in FrontState}


def test_all_that_a_server_tells_of_progress_is_known():
    told = {*progress.Progress.__slots__, "percent"}

    assert {field.name for field in fields(Progress)} == told


@pytest.fixture(scope="module")
def server_params():
    return front_params(SimulatorParams)


@pytest.fixture(scope="module")
def schema(server_params):
    pipelines = [
        registry.load(registry.PIPELINES, name) for name in registry.names(registry.PIPELINES)
    ]
    return front_schema(server_params, pipelines)


def test_the_parameters_of_a_server_are_those_of_its_schema(schema, server_params):
    server = server_params.from_tree({})

    params = Params.of_schema(schema, server.to_json())

    assert params.to_dict() == server.to_tree()
    assert params.changed() == ()
    params.reset()
    assert params.to_dict() == server.to_tree()
    params.processing = {}
    assert params.to_dict() == server.to_tree()


def test_another_pipeline_is_the_same_on_both_sides(schema, server_params):
    server = server_params.from_tree({}).changed({"processing.saving.filename_prefix": "mine"})
    params = Params.of_schema(schema, server.to_json())

    for name in registry.names(registry.PIPELINES):
        params.processing.class_name = name
        server = server.with_pipeline(name)
        assert params.to_dict() == server.to_tree()


def test_what_the_client_takes_the_server_takes(schema, server_params):
    params = Params.of_schema(schema, server_params.from_tree({}).to_json())
    params.acquisition.acq.nb_frames = 7
    params.processing.statistics = {
        "enabled": True,
        "rect_rois": [{"dimensions": {"x": 3, "y": 4}}],
        "arc_rois": [{"r1": 1, "r2": 5.5}],
    }
    params.policy.frame_lost = "tolerate"
    params.metadata = {"sample": "ä"}

    server = server_params.from_json(params.to_json())

    assert server.at("acquisition.acq.nb_frames") == 7
    assert server.statistics_rois == [[0, 0, 3, 4], [0, 0, 1, 5.5, 0, 360]]
    assert server.at("metadata") == {"sample": "ä"}


def test_every_command_has_a_summary():
    commands = ("acquire", "status", "watch", "params", "validate")

    assert set(commands) <= set(registry.names(registry.COMMANDS))
    for name in commands:
        command = registry.load(registry.COMMANDS, name)
        assert command.__doc__.splitlines()[0].endswith(".")
