"""The unmodified conductor drives the servers: prepare, start, trigger, stop, reset."""

import pytest
from lima2.client import services
from lima2.client.services import ConnectionState
from lima2.common.exceptions import Lima2BackendError, Lima2BadCommand

from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tests.system.lab import FAILING, LEGACY, Lab, expected, saved_frames
from tests.tango.devices import FAULT, wait_until


@pytest.fixture(scope="module")
def mpi_lab(tmp_path_factory):
    """The same system as one MPI job."""
    folder = tmp_path_factory.mktemp("mpi")
    with (
        EmbeddedDatabase(folder, load_deployment("round_robin_2")) as database,
        Lab(folder, database.tango_host, mpi=True) as lab,
    ):
        yield lab


@pytest.fixture(params=["plain", "mpi"])
def lab(request):
    """Both ways of starting servers."""
    lab = request.getfixturevalue(f"{request.param}_lab")
    yield lab
    lab.recover()


def test_the_conductor_finds_a_working_system(lab):
    lab.client.handshake()

    assert lab.client.operational()
    assert lab.client.connection_state() is ConnectionState.ONLINE
    assert lab.state() == "IDLE"
    assert lab.client.acquisition.state() == "IDLE"
    assert isinstance(lab.client.acquisition.result(), services.Unknown)
    assert lab.client.detector.version() == "core-1.2.0"
    assert {LEGACY, FAILING} <= set(lab.client.pipeline.classes())
    for name in (LEGACY, FAILING):
        assert lab.client.pipeline.version(name) == "core-1.2.0"
        assert "properties" in lab.client.pipeline.params_schema(name)
    control, receiver = lab.client.acquisition.default_params()
    assert control == receiver  # BLISS sends one tree to both
    assert lab.client.detector.info()["plugin"] == "Simulator"
    assert "software" in lab.client.detector.capabilities()["trigger_modes"]
    assert {"state", "temperature", "humidity"} <= set(lab.client.detector.status())


def test_an_acquisition_from_prepare_to_its_end(lab):
    triggers = {"acq.trigger_mode": "software", "acq.nb_frames_per_trigger": 60}
    acq_id = lab.prepare(lab.acquisition({"acq.nb_frames": 60, **triggers}))
    prepared = lab.state(), lab.client.acquisition.state()
    lab.start()
    running = lab.state()
    lab.client.acquisition.trigger()
    lab.wait_end()

    assert prepared == ("PREPARED", "IDLE")
    assert running == "RUNNING"
    assert lab.state() == "IDLE"
    assert isinstance(lab.client.acquisition.result(), services.AcquisitionSuccess)
    assert lab.client.acquisition.nb_frames_acquired() == 60
    assert lab.client.acquisition.nb_frames_xferred() == 60
    assert lab.client.acquisition.errors() == []
    assert lab.client.pipeline.current_pipeline() == acq_id
    assert [lab.client.pipeline.progress(c) for c in (None, "frame", "input_frame")] == [60] * 3
    assert not lab.client.pipeline.running()
    info = lab.client.pipeline.frame_channels()["frame"]
    assert (info.num_channels, info.height, info.width, info.pixel_type) == (1, 32, 48, "uint8")
    for source in ("frame", "input_frame"):
        assert [lab.frame(idx, source).max() for idx in (0, 1, 59)] == [
            expected(idx) for idx in (0, 1, 59)
        ]
    assert lab.frame(-1).max() == expected(59)


def test_the_next_prepare_takes_away_the_pipeline_before(lab):
    old = lab.acquire(lab.acquisition({"acq.nb_frames": 4}))
    assert lab.client.pipeline.uuids() == [old]

    new = lab.prepare(lab.acquisition({"acq.nb_frames": 4}))

    assert lab.client.pipeline.uuids() == [new]
    lab.start()
    lab.wait_end()


@pytest.mark.parametrize("nb_frames", [10, 27, 42])
def test_software_triggers_back_to_back_give_one_frame_each(lab, nb_frames):
    roi = {"topleft": {"x": 8, "y": 8}, "dimensions": {"x": 16, "y": 16}}
    acquisition = lab.acquisition({"acq.nb_frames": nb_frames, "acq.trigger_mode": "software"})
    processing = lab.processing(
        LEGACY, {"statistics": {"enabled": True, "rect_rois": [roi], "arc_rois": []}}
    )
    lab.prepare(acquisition, processing)
    lab.start()
    for _ in range(nb_frames):
        lab.client.acquisition.trigger()
    records = lab.reduced("roi_stats", 0)
    lab.wait_end()

    assert lab.state() == "IDLE"
    assert lab.client.acquisition.nb_frames_xferred() == nb_frames
    assert records["max"].tolist() == [expected(idx) for idx in range(nb_frames)]
    assert lab.system.xferred() == [(nb_frames + 1) // 2, nb_frames // 2]


def test_each_trigger_can_be_waited_for_as_in_a_step_scan(lab):
    lab.prepare(lab.acquisition({"acq.nb_frames": 5, "acq.trigger_mode": "software"}))
    lab.start()
    acquisition = lab.client.acquisition

    def done():
        return max(acquisition.nb_frames_acquired(), acquisition.nb_frames_xferred())

    for point in range(1, 6):
        acquisition.trigger()
        wait_until(lambda n=point: done() >= n, f"point {point}", 20)
    lab.wait_end()

    assert lab.client.acquisition.nb_frames_acquired() == 5


def test_a_stop_in_the_middle_leaves_counts_that_fit_together(lab, tmp_path):
    saving = lab.saving(tmp_path, {"saving.nb_frames_per_file": 10})
    acq_id = lab.prepare(lab.acquisition({"acq.nb_frames": 0, "acq.expo_time": 2000}), saving)
    lab.start()
    wait_until(lambda: lab.client.acquisition.nb_frames_xferred() > 50, "some frames", 20)

    lab.client.acquisition.stop()
    lab.wait_end(5)

    first, second = lab.system.xferred()
    assert isinstance(lab.client.acquisition.result(), services.AcquisitionSuccess)
    assert lab.state() == "IDLE"
    assert first - second in (0, 1)
    for counters, received in zip(lab.counters(acq_id), (first, second), strict=True):
        assert counters["nb_frames_source"] == received
        assert counters["nb_frames_saved"] == received
    assert lab.client.pipeline.progress() == first + second
    assert lab.frame(first + second - 1).max() == expected(first + second - 1)
    for receiver, received in enumerate((first, second)):
        frames, validity = saved_frames(tmp_path, receiver)
        assert validity == [0] * received
        assert [frame.max() for frame in frames] == [
            expected(receiver + 2 * row) for row in range(received)
        ]


def test_earlier_pipelines_can_be_cleared_on_demand(lab):
    old = lab.acquire(lab.acquisition({"acq.nb_frames": 4}))
    lab.system.acquire(lab.system.acquisition({"acq.nb_frames": 4}))
    lab.system.clear_listeners()
    assert len(lab.client.pipeline.uuids()) == 2

    cleared = lab.client.pipeline.clear_previous_pipelines()

    assert len(cleared) == 1
    assert lab.client.pipeline.uuids() == [old]


def test_log_levels_attributes_and_commands_of_the_detector_are_reached_over_http(lab):
    session = lab.client.session
    before = session.get("/log_level").json()
    session.session.put(f"{session.base_url}/log_level/control", json="DEBUG").raise_for_status()
    session.session.put(f"{session.base_url}/log_level/receivers", json="error").raise_for_status()
    names = [device.dev_name() for device in lab.system.devices]

    def levels():
        found = session.get("/log_level").json()
        return [found[name] for name in names]

    # The conductor has only begun to write a level when it answers.
    wait_until(lambda: levels() == ["debug", "error", "error"], "the other levels")
    session.session.put(f"{session.base_url}/log_level/control", json="info")
    session.session.put(f"{session.base_url}/log_level/receivers", json="info")
    wait_until(lambda: levels() == ["info"] * 3, "the levels of before")
    lab.client.detector.command("Reset")

    assert [before[name] for name in names] == ["info"] * 3
    assert lab.client.detector.read_attribute("version") == "core-1.2.0"


def test_the_status_of_the_whole_system_can_be_asked_while_it_runs(lab):
    lab.prepare(lab.acquisition({"acq.nb_frames": 300, "acq.expo_time": 2000}))
    lab.start()

    status = lab.client.session.get("/status").json()

    assert "Simulator" in str(status)
    lab.wait_end()


def test_a_second_start_a_lone_start_and_a_lone_stop_are_refused(lab):
    with pytest.raises(Lima2BadCommand):
        lab.start()
    with pytest.raises(Lima2BadCommand):
        lab.client.acquisition.stop()
    lab.prepare(lab.acquisition({"acq.nb_frames": 0}))
    lab.start()
    with pytest.raises(Lima2BadCommand):
        lab.start()
    with pytest.raises(Lima2BadCommand):
        lab.prepare()
    with pytest.raises(Lima2BadCommand):
        lab.client.acquisition.reset()
    lab.client.acquisition.stop()
    lab.wait_end(5)

    assert lab.state() == "IDLE"


def test_a_prepared_system_can_be_reset_and_prepared_again(lab):
    lab.prepare()
    lab.client.acquisition.reset()
    assert lab.state() == "IDLE"

    lab.acquire(lab.acquisition({"acq.nb_frames": 6}))


# -- the pipeline that fails when told to -------------------------------------------------------


def test_a_pipeline_that_fails_at_prepare_is_refused_and_the_next_one_taken(lab):
    with pytest.raises(Lima2BackendError, match="failed_on_prepare: Prepare was to fail"):
        lab.prepare(None, lab.processing(FAILING, {"failed_on_prepare": True}))

    lab.acquire(lab.acquisition({"acq.nb_frames": 30}), lab.processing(FAILING))
    assert lab.client.acquisition.nb_frames_xferred() == 30


def test_a_pipeline_that_fails_at_activation_faults_the_system_until_reset(lab):
    lab.prepare(None, lab.processing(FAILING, {"failed_on_activate": True}))
    lab.start()
    lab.wait_failed()
    lab.system.wait_receivers(FAULT)
    errors = lab.client.acquisition.errors()
    lab.client.acquisition.reset()

    assert len(errors) == 2
    assert all("activation was to fail" in error for error in errors)
    assert lab.state() == "IDLE"
    assert lab.client.acquisition.errors() == []
    lab.acquire(lab.acquisition({"acq.nb_frames": 4}))


def test_a_pipeline_that_fails_at_a_frame_ends_by_itself_with_the_reason(lab):
    tree = lab.acquisition({"acq.nb_frames": 3000})
    lab.prepare(tree, lab.processing(FAILING, {"failed_frame_idx": 10}))
    lab.start()
    lab.wait_failed()
    lab.wait_end(5)
    # The conductor asks for the error of a run when it is told that there is one.
    wait_until(lambda: lab.failure().processing_errors, "the error of the processing")
    failure = lab.failure()
    lab.client.acquisition.reset()

    assert any("frame 10" in error for error in failure.processing_errors)
    assert any("frame 10" in error for error in failure.acquisition_errors)
    assert lab.state() == "IDLE"
    lab.acquire(lab.acquisition({"acq.nb_frames": 4}))
