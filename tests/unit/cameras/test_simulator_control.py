import logging

import pytest

from camera_plugins.simulator.plugin import PLUGIN
from lima2_core.camera.api import CameraEnv
from lima2_core.camera.paced import STOP_LEAD_S
from lima2_core.errors import CameraError, ParamError, StateError
from lima2_core.ids import AcqId
from lima2_core.schema import json_schema
from lima2_core.testing.fakes import DirectLink, ManualClock

ACQ = AcqId("acq")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def link():
    return DirectLink()


@pytest.fixture
def control(clock, link):
    return PLUGIN.make_control(CameraEnv({}, clock), link)


def make_params(acq=None, **groups):
    tree = {"acq": {"expo_time": 3000, "latency_time": 1000, **(acq or {})}, **groups}
    return PLUGIN.params.from_tree(tree)


def kinds(link):
    return [message.kind for message in link.messages]


def test_the_defaults_are_those_of_the_contract():
    assert PLUGIN.params().to_tree()["det"] == {
        "generator": {
            "type": "gauss",
            "gauss": {
                "peaks": [{"x0": 1024.0, "y0": 1024.0, "fwhm": 128.0, "max": 100.0}],
                "grow_factor": 0.0,
            },
            "diffraction": {
                "x0": 1024.0,
                "y0": 1024.0,
                "source_pos_x": 5.0,
                "source_pos_y": 5.0,
                "source_speed_x": 0.0,
                "source_speed_y": 0.0,
            },
            "pixel_type": "gray8",
            "nb_channels": 1,
        },
        "nb_prefetch_frames": 16,
        "dropped_frame_idx": 0,
        "failed_frame_idx": 0,
        "dispatch_mode": "round_robin",
        "dead_after_frames": 0,  # of ours
    }


def test_the_schema_has_the_default_peak():
    schema = json_schema(PLUGIN.params)
    det = schema["properties"]["det"]["properties"]
    peaks = det["generator"]["properties"]["gauss"]["properties"]["peaks"]

    assert peaks["default"] == [{"x0": 1024.0, "y0": 1024.0, "fwhm": 128.0, "max": 100.0}]


def test_the_detector_has_four_megapixels_or_the_size_of_its_properties(link):
    info = PLUGIN.make_control(CameraEnv(), link).info()
    small = PLUGIN.make_control(CameraEnv({"rows": "512", "cols": "1030"}), link).info()

    assert (info.model, info.sn, info.rows, info.cols) == ("Simulator", "0", 2048, 2048)
    assert (small.rows, small.cols) == (512, 1030)


@pytest.mark.parametrize(
    "properties",
    [
        {"rows": "0"},
        {"cols": "65536"},
        {"rows": "many"},
        {"external_edge_period_s": "0"},
        {"external_edge_period_s": "soon"},
    ],
)
def test_wrong_properties_are_refused(properties, link):
    with pytest.raises(CameraError, match=next(iter(properties))):
        PLUGIN.make_control(CameraEnv(properties), link)


def test_external_trigger_is_offered_where_edges_come(link, control):
    fed = PLUGIN.make_control(CameraEnv({"external_edge_period_s": "0.1"}), link)

    assert control.capabilities().trigger_modes == ("internal", "software")
    assert fed.capabilities().trigger_modes == ("internal", "software", "external")


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        ({"acq": {"trigger_mode": "external"}}, "acq.trigger_mode"),
        ({"acq": {"trigger_mode": "gate"}}, "acq.trigger_mode"),
        ({"acq": {"expo_time": 10_000_001}}, "acq.expo_time"),
        ({"acq": {"latency_time": 1_000_001}}, "acq.latency_time"),
        ({"acq": {"nb_frames_per_trigger": 2**32}}, "acq.nb_frames_per_trigger"),
        ({"accu": {"nb_frames": 2}}, "accu.nb_frames"),
        ({"xfer": {"slice": {"start": 1}}}, "xfer.slice.start"),
        ({"xfer": {"slice": {"stride": 2}}}, "xfer.slice.stride"),
        ({"img": {"roi": {"dimensions": {"x": 2049, "y": 1}}}}, "img.roi.dimensions"),
    ],
)
def test_what_the_detector_cannot_do_is_refused(control, link, tree, path):
    params = PLUGIN.params.from_tree(tree)

    for refuse in (control.check, lambda wrong: control.prepare(ACQ, wrong, 1)):
        with pytest.raises(ParamError) as refused:
            refuse(params)
        assert refused.value.path == path
    assert link.messages == []


@pytest.mark.parametrize("acq", [{"expo_time": 1}, {"expo_time": 10**7, "latency_time": 10**6}])
def test_the_limits_themselves_are_accepted(control, acq):
    control.check(make_params(acq))


def test_frames_are_counted_by_the_clock(control, clock):
    control.prepare(ACQ, make_params({"nb_frames": 10}), 1)
    assert control.nb_frames_acquired() == 0
    clock.advance(5.0)
    control.start()

    clock.advance(0.0029)
    assert control.nb_frames_acquired() == 0
    clock.advance(0.0001)
    assert control.nb_frames_acquired() == 1
    clock.advance(0.004 * 5)
    assert control.nb_frames_acquired() == 6
    clock.advance(60)
    assert control.nb_frames_acquired() == 10


def test_the_count_stays_after_the_end_until_the_next_prepare(control, clock):
    control.prepare(ACQ, make_params({"nb_frames": 100}), 1)
    control.start()
    clock.advance(0.003 + 0.004)

    control.stop()
    control.close()
    clock.advance(60)

    assert control.nb_frames_acquired() == 2 + int(STOP_LEAD_S / 0.004)
    control.prepare(ACQ, make_params(), 1)
    assert control.nb_frames_acquired() == 0


def test_the_receivers_are_told_how_many_frames_were_exposed(control, clock, link):
    control.prepare(ACQ, make_params({"nb_frames": 0}), 1)
    control.start()
    clock.advance(0.003 + 2 * 0.004)
    control.stop()

    assert kinds(link) == ["start", "stop"]
    assert link.messages[0].values == {"t0_wall_s": 1_000_000.0}
    assert link.messages[1].values == {"nb_exposed": 3 + int(STOP_LEAD_S / 0.004)}
    assert {message.acq_id for message in link.messages} == {ACQ}


def test_stop_and_close_are_harmless_at_any_time(control, link):
    for _ in range(2):
        control.stop()
        control.close()
    assert link.messages == []

    control.prepare(ACQ, make_params(), 1)
    for _ in range(2):
        control.stop()
        control.close()
    assert kinds(link) == ["stop"]


def test_triggers_beyond_the_frames_are_ignored_with_a_warning(control, link, caplog):
    acq = {"nb_frames": 5, "trigger_mode": "software", "nb_frames_per_trigger": 2}
    control.prepare(ACQ, make_params(acq), 1)
    control.start()

    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            control.trigger()

    assert kinds(link) == ["start", "trigger", "trigger", "trigger"]
    assert [message.values["count"] for message in link.messages[1:]] == [1, 2, 3]
    assert "beyond the 5 frames" in caplog.text


def test_a_trigger_is_refused_where_none_is_waited_for(control):
    with pytest.raises(StateError, match="between its start and its stop"):
        control.trigger()

    control.prepare(ACQ, make_params(), 1)
    control.start()

    with pytest.raises(StateError, match="'internal'"):
        control.trigger()


def test_a_camera_that_is_not_armed_does_not_start(control):
    with pytest.raises(StateError, match="not armed"):
        control.start()


def test_the_status_tells_what_the_detector_does(control):
    states = [control.status()["state"]]
    control.prepare(ACQ, make_params(), 1)
    states.append(control.status()["state"])
    control.start()
    states.append(control.status()["state"])
    control.stop()
    states.append(control.status()["state"])
    control.close()
    states.append(control.status()["state"])

    assert states == ["idle", "armed", "acquiring", "stopped", "idle"]
    assert 20 < control.status()["temperature"] < 30
    assert 30 < control.status()["humidity"] < 50


def test_a_detector_dies_where_it_is_asked_to(control, clock, link):
    control.prepare(ACQ, make_params({"nb_frames": 10}, det={"dead_after_frames": 4}), 1)
    assert control.failure() is None
    control.start()
    clock.advance(0.0145)
    assert (control.nb_frames_acquired(), control.failure() is None) == (3, True)
    clock.advance(1.0)

    assert control.nb_frames_acquired() == 4
    assert control.failure().reason == (
        "the simulated detector died after 4 frames, as det.dead_after_frames asks"
    )
    assert control.failure().certain
    control.stop()
    assert link.messages[-1].values == {"nb_exposed": 4}
    assert control.failure() is None


def test_a_detector_that_has_exposed_all_is_not_missed(control, clock):
    control.prepare(ACQ, make_params({"nb_frames": 4}, det={"dead_after_frames": 4}), 1)
    control.start()
    clock.advance(1.0)

    assert control.failure() is None
