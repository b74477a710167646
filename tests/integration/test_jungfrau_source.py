"""Frames of a JUNGFRAU on one receiver: ends, losses, triggers, and who has the listeners."""

import os
import signal

import numpy as np
import pytest

from camera_plugins.jungfrau import emulator_backend
from camera_plugins.jungfrau.plugin import PLUGIN
from lima2_core.camera.api import CameraEnv, CameraMessage, SourceRequest
from lima2_core.camera.dispatch import Share
from lima2_core.data.frame import Frame, Gap, Validity
from lima2_core.errors import BusyError, CameraError, EndOfFrames, ParamError, PartialFrameError
from lima2_core.ids import AcqId
from lima2_core.net.pulse import process_state
from lima2_core.testing.camera_rig import CameraCase, CameraRig, indices, until_the_end
from lima2_core.testing.doubles import LIMIT_S, eventually
from tango_servers.local.processes import free_udp_addresses

QUICK = {"expo_time": 2000, "latency_time": 0}
PATIENT = {"frame_timeout_ms": 2000, "silence_ms": 5000}
"""Longer than any pause of a busy computer among frames that come."""


@pytest.fixture(autouse=True)
def patient_emulator():
    """A computer that is busy takes its time to start one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulator_backend, "_PREPARE_S", LIMIT_S)
        yield


def case(det=None, acq=None, **properties):
    tree = {
        "acq": {**QUICK, **(acq or {})},
        "det": {"readout_rows": 8, "nb_buffers": 24, **PATIENT, **(det or {})},
    }
    properties.setdefault("udp_addresses", free_udp_addresses(1, 4))
    return CameraCase(PLUGIN, tree=tree, properties=properties)


@pytest.fixture
def make_rig():
    rigs = []

    def make(made):
        rigs.append(CameraRig(made))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def port_of(rig):
    return rig.receivers[0].counters()["ports"][0]


def test_a_tail_that_never_came_is_lost_once_the_detector_is_silent(make_rig):
    faults = [f"drop:frame={frame}" for frame in (8, 9)]
    made = case({"emulator": {"faults": faults}, "silence_ms": 1500})
    rig = make_rig(made)

    (items,) = rig.run(made.params(nb_frames=10))

    assert indices(items) == list(range(10))
    assert [item.cause for item in items if isinstance(item, Gap)] == [Validity.PACKET_LOSS] * 2


def test_an_incomplete_frame_can_be_the_end(make_rig):
    faults = {"emulator": {"faults": ["drop:frame=3,packet=0"]}, "partial_frames": "fail"}
    made = case(faults)
    rig = make_rig(made)
    rig.prepare(made.params(nb_frames=10))
    rig.control.start()
    seen = []

    with pytest.raises(PartialFrameError, match=r"frame 3 is incomplete, 1 of 2 packets"):
        seen.extend(until_the_end(rig.sources[0]))

    assert indices(seen) == [0, 1, 2, 3]
    assert isinstance(seen[3], Gap)


def test_a_detector_that_does_not_know_where_it_stopped_has_given_all_there_is(make_rig):
    made = case({"nb_buffers": 2000})  # for all that it sends, however late they are taken
    rig = make_rig(made)
    rig.prepare(made.params(nb_frames=1000))
    source = rig.sources[0]
    rig.control.start()
    items = list(source.next_frames(LIMIT_S))
    rig.link.sources.clear()  # the emulator knows, and would tell
    rig.control.stop()

    source.deliver(CameraMessage(rig.link.messages[-1].acq_id, "stop", {"nb_exposed": -1}))
    items += until_the_end(source)

    assert source.expected_frames() is None
    assert indices(items) == list(range(rig.control.nb_frames_acquired()))


def test_each_trigger_gives_its_frames_and_their_times(make_rig):
    acq = {"trigger_mode": "software", "nb_frames_per_trigger": 3}
    made = case(acq=acq)
    rig = make_rig(made)
    rig.prepare(made.params(nb_frames=6, **acq))
    rig.control.start()
    rig.control.trigger()
    items = []
    while len(items) < 3:
        items += rig.sources[0].next_frames(LIMIT_S)
    assert list(rig.sources[0].next_frames(0.1)) == []
    rig.control.trigger()
    items += until_the_end(rig.sources[0])

    assert indices(items) == list(range(6))
    times = [item.timestamp_s for item in items]
    assert np.allclose(np.diff(times)[[0, 1, 3, 4]], 0.002, atol=1e-6)
    assert times[3] - times[2] > 0.05


def test_fields_tell_of_the_packets(make_rig):
    made = case({"emulator": {"faults": ["drop:frame=1,packet=1,port=1"]}}, interfaces="2")
    rig = make_rig(made)

    rig.prepare(made.params(nb_frames=3))
    rig.control.start()
    frames = []
    while len(frames) < 3:
        frames += rig.sources[0].next_frames(LIMIT_S)

    assert [int(frame.fields["packets"]) for frame in frames] == [2, 2, 2]
    numbers = [int(frame.fields["frame_number"]) for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert [int(frame.fields["bunch_id"]) for frame in frames] == [0, 1, 2]
    assert [int(frame.fields["detector_time"]) for frame in frames] == [0, 20_000, 40_000]
    assert frames[0].fields["packet_mask"].tolist() == [[1], [1]]
    assert frames[0].fields["module_ids"].tolist() == [1234, 1234]


def test_a_port_of_which_nothing_came_has_no_module_id(make_rig):
    faults = [f"drop:frame=1,packet={n},port=1" for n in (0, 1)]
    made = case({"emulator": {"faults": faults}}, interfaces="2")
    rig = make_rig(made)

    rig.prepare(made.params(nb_frames=3))
    rig.control.start()
    frames = []
    while len(frames) < 3:
        frames += rig.sources[0].next_frames(LIMIT_S)

    told = [frame.fields["module_ids"].tolist() for frame in frames]
    assert [1234, 0xFFFF] in told
    assert [1234, 1234] in told


def test_counters_tell_what_became_of_packets(make_rig):
    faults = ["double:frame=2,packet=0", "foreign:frame=3,packet=0", "short:frame=4,packet=1"]
    made = case({"emulator": {"faults": faults}})
    rig = make_rig(made)

    rig.run(made.params(nb_frames=8))

    port = port_of(rig)
    found = {name: port[name] for name in ("accepted", "doubled", "foreign", "short", "lost")}
    assert found == {"accepted": 15, "doubled": 1, "foreign": 1, "short": 1, "lost": 1}
    assert port["name"].startswith("127.0.0.1:")


def test_packets_of_another_module_are_foreign(make_rig):
    # The emulator numbers its modules by columns of one; the receiver expects one column of two.
    made = case({"frame_timeout_ms": 500}, modules="2", modules_per_column="1")
    rig = make_rig(made)
    other = PLUGIN.make_receiver(CameraEnv({**made.properties, "modules_per_column": "2"}))
    rig.receivers[0].close()
    rig.receivers[0] = other

    (items,) = rig.run(made.params(nb_frames=4))

    codes = [item.validity if isinstance(item, Frame) else item.cause for item in items]
    assert codes == [Validity.PARTIAL] * 4
    assert port_of(rig)["foreign"] == 0
    assert other.counters()["ports"][1]["foreign"] == 8


def with_a_signal_to_its_listener(rig, made, number):
    """All that comes of 300 frames, though the listener gets a signal among them."""
    rig.prepare(made.params(nb_frames=300))
    rig.control.start()
    first = list(rig.sources[0].next_frames(LIMIT_S))
    os.kill(port_of(rig)["pid"], number)
    return first + list(until_the_end(rig.sources[0]))


def test_a_listener_that_dies_is_replaced_and_nothing_hangs(make_rig):
    made = case()
    rig = make_rig(made)

    items = with_a_signal_to_its_listener(rig, made, signal.SIGKILL)

    assert indices(items) == list(range(300))
    assert port_of(rig)["replaced"] == 1


def test_a_listener_that_hangs_is_replaced_and_the_run_ends(make_rig):
    made = case()
    rig = make_rig(made)

    items = with_a_signal_to_its_listener(rig, made, signal.SIGSTOP)

    assert indices(items) == list(range(300))
    assert {item.cause for item in items if isinstance(item, Gap)} <= {Validity.PACKET_LOSS}
    assert port_of(rig)["hung"] == 1


def test_a_listener_that_died_before_a_run_is_named_at_its_prepare(make_rig):
    made = case()
    rig = make_rig(made)
    rig.run(made.params(nb_frames=3))
    rig.sources[0].close()
    port = port_of(rig)
    os.kill(port["pid"], signal.SIGKILL)
    assert eventually(lambda: process_state(port["pid"]) == "Z")

    rig.prepare(made.params(nb_frames=3))

    said = f"the listener of {port['name']} died (killed by signal 9), and was replaced"
    assert [text for text in rig.sources[0].remarks if text.startswith(said)]
    assert port_of(rig)["replaced"] == 0


def test_a_run_that_is_stopped_ends_though_its_listener_hangs(make_rig):
    made = case()
    rig = make_rig(made)
    rig.prepare(made.params(nb_frames=100_000))
    source = rig.sources[0]
    rig.control.start()
    items = list(source.next_frames(LIMIT_S))
    os.kill(port_of(rig)["pid"], signal.SIGSTOP)
    assert eventually(lambda: process_state(port_of(rig)["pid"]) == "T")
    known = rig.control.nb_frames_acquired()
    assert eventually(lambda: rig.control.nb_frames_acquired() > known + 10)

    rig.control.stop()
    items += until_the_end(source)

    assert port_of(rig)["hung"] == 1
    assert indices(items) == list(range(rig.control.nb_frames_acquired()))
    assert items[-1].cause is Validity.PACKET_LOSS
    items.clear()
    (items,) = rig.run(made.params(nb_frames=3))
    assert all(isinstance(item, Frame) for item in items)


def test_a_run_given_up_before_its_start_gives_the_listeners_back(make_rig):
    made = case()
    rig = make_rig(made)
    rig.prepare(made.params(nb_frames=3))
    waiting = rig.sources[0]
    request = SourceRequest(AcqId("given up"), made.params(nb_frames=9), Share())
    other = rig.receivers[0].source(request)
    other.open(rig.pools)
    with pytest.raises(EndOfFrames):
        waiting.next_frames(0.01)

    other.close()
    again = rig.receivers[0].source(
        SourceRequest(waiting._request.acq_id, made.params(nb_frames=3), Share())
    )
    assert rig.receivers[0].owns(waiting)
    rig.control.start()

    assert again.expected_frames() == 3
    assert indices(list(until_the_end(waiting))) == [0, 1, 2]


def test_the_same_listeners_serve_other_sizes(make_rig):
    made = case()
    rig = make_rig(made)
    pids = []
    for rows in (8, 64, 16):
        det = {**made.tree["det"], "readout_rows": rows}
        (items,) = rig.run(made.params({**made.tree, "det": det}, nb_frames=3))
        assert [item.data.shape for item in items] == [(1, rows, 1024)] * 3
        pids.append(port_of(rig)["pid"])
        items.clear()

    assert len(set(pids)) == 1


def test_the_emulator_may_die_and_be_started_again(make_rig):
    # It sends no more than so many until it is killed, however late.
    faults = ["pause:frame=50,packet=0,amount=600000"]
    made = case({"silence_ms": 200, "emulator": {"faults": faults}})
    rig = make_rig(made)
    rig.prepare(made.params(nb_frames=100))
    rig.control.start()
    list(rig.sources[0].next_frames(LIMIT_S))
    backend = rig.control._backend
    backend._process.kill()
    assert eventually(lambda: rig.control.status()["emulator"] == "died")
    failure, exposed = rig.control.failure(), rig.control.nb_frames_acquired()
    assert failure.certain
    assert failure.reason == (
        f"the emulated detector died after {exposed} of 100 frames: killed by SIGKILL"
    )

    items = list(until_the_end(rig.sources[0], 10.0))

    assert any(isinstance(item, Gap) for item in items)
    with pytest.raises(CameraError, match="died"):
        rig.control.stop()
    assert rig.control.nb_frames_acquired() == exposed
    (items,) = rig.run(made.params(nb_frames=3))
    assert indices(items) == [0, 1, 2]


def test_an_emulator_that_reads_many_images_is_asked_again(make_rig, monkeypatch):
    made = case()
    rig = make_rig(made)
    rig.run(made.params(nb_frames=1))
    rig.end_run()
    monkeypatch.setattr(emulator_backend, "_PREPARE_S", 0.05)
    pid = rig.control._backend._process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(CameraError, match="try again") as caught:
                rig.prepare(made.params(nb_frames=2))
            assert caught.value.details["left_s"] > 0
    finally:
        os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()

    (items,) = rig.run(made.params(nb_frames=3))

    assert indices(items) == [0, 1, 2]
    assert rig.control._backend._process.pid == pid


def test_more_faults_than_the_emulator_can_be_told_are_refused(make_rig):
    made = case()
    rig = make_rig(made)
    faults = [f"drop:frame={number},packet=0,module=0,port=0" for number in range(2000)]
    det = {**made.tree["det"], "emulator": {"faults": faults}}

    with pytest.raises(ParamError, match="fewer rules") as caught:
        rig.prepare(made.params({**made.tree, "det": det}, nb_frames=2))

    assert caught.value.path == "det.emulator.faults"
    (items,) = rig.run(made.params(nb_frames=3))
    assert indices(items) == [0, 1, 2]


def test_images_of_a_file_are_read_once_and_again_when_they_change(make_rig, tmp_path):
    path = tmp_path / "images.npy"
    made = case()
    rig = make_rig(made)
    det = {**made.tree["det"], "emulator": {"images": str(path)}}
    for value in (7, 7, 9):
        if value == 9 or not path.exists():
            np.save(path, np.full((1, 512, 1024), value, np.uint16))
        (items,) = rig.run(made.params({**made.tree, "det": det}, nb_frames=1))
        assert (items[0].data == value).all()
        items.clear()


def test_an_emulator_that_is_never_ready_is_given_up(make_rig, monkeypatch):
    made = case()
    rig = make_rig(made)
    rig.run(made.params(nb_frames=1))
    rig.end_run()
    monkeypatch.setattr(emulator_backend, "_PREPARE_S", 0.05)
    monkeypatch.setattr(emulator_backend, "_LONGEST_PREPARE_S", 0.0)
    os.kill(rig.control._backend._process.pid, signal.SIGSTOP)

    with pytest.raises(BusyError):
        rig.prepare(made.params(nb_frames=2))

    monkeypatch.undo()
    (items,) = rig.run(made.params(nb_frames=3))
    assert indices(items) == [0, 1, 2]


def test_buffers_that_others_hold_do_not_count(make_rig):
    made = case({"nb_buffers": 16})
    rig = make_rig(made)
    rig.prepare(made.params(nb_frames=12))
    assert rig.sources[0].spare_frames(rig.pools) == 8
    rig.control.start()
    held = []
    while len(held) < 12:
        held += rig.sources[0].next_frames(LIMIT_S)
    (before,) = rig.pools.stats().values()

    (items,) = rig.run(made.params(nb_frames=12))

    (after,) = rig.pools.stats().values()
    assert indices(items) == list(range(12))
    assert (before.slots, after.slots) == (16, 28)
    assert [int(frame.data[0, 0, 0]) & 0x3FFF for frame in held[:2]] != [0, 0]


def test_frames_of_an_earlier_size_make_room_when_memory_is_short(make_rig):
    made = case({"nb_buffers": 100})
    rig = make_rig(made)
    rig.pools.limit_bytes = 64 * 8 * 1024 * 2
    for rows in (8, 64, 16):
        det = {**made.tree["det"], "readout_rows": rows}
        (items,) = rig.run(made.params({**made.tree, "det": det}, nb_frames=3))
        assert indices(items) == [0, 1, 2]
        items.clear()


def test_however_many_buffers_are_wanted_others_get_memory_too(make_rig):
    made = case({"nb_buffers": 100_000})
    rig = make_rig(made)
    rig.pools.limit_bytes = 64 * 8 * 1024 * 2

    rig.prepare(made.params(nb_frames=1))

    (stats,) = rig.pools.stats().values()
    assert stats.slots == 48
