"""The client and its commands on real servers: control and two receivers in turns, no conductor."""

import contextlib
import json
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from client import (
    DeadlineError,
    Frame,
    Lima2,
    MasterFile,
    NotAvailableError,
    ParamError,
    StateError,
    UnreachableError,
    Validity,
)
from client.commands.acquire import main as acquire
from client.commands.params import main as show_params
from client.commands.status import main as show_status
from client.commands.validate import main as validate
from client.waiting import Wait
from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.processes import find_program
from tango_servers.local.servers import ServerGroup
from tests.system.lab import SMALL, expected

LOST = 3
REGIONS = [{"topleft": {"x": x, "y": 0}, "dimensions": {"x": 8, "y": 8}} for x in (0, 40)]
DROP = {"acquisition.det.dropped_frame_idx": LOST}


class Site:
    """Database, servers, and how to get clients and commands on them."""

    def __init__(self, folder):
        self.folder = folder
        self.deployment = load_deployment("round_robin_2")
        self.database = EmbeddedDatabase(folder, self.deployment)

    def __enter__(self):
        self.database.start()
        self.servers = ServerGroup(self.folder / "logs", self.database.tango_host, self.deployment)
        self.servers.start()
        return self

    def __exit__(self, *error):
        self.servers.stop()
        self.database.stop()

    @property
    def device(self):
        return f"tango://{self.database.tango_host}/{self.deployment.control.name}"

    def client(self):
        """A client with small and quick frames."""
        lima = Lima2(self.device)
        lima.params.reset()  # the server has those of the test before
        lima.params.update(
            {
                "acquisition.img.roi": SMALL,
                "acquisition.acq.expo_time": 1000,
                "acquisition.acq.latency_time": 0,
                "acquisition.det.generator.gauss.grow_factor": 0.1,
            }
        )
        return lima

    @contextlib.contextmanager
    def running(self, name, *words):
        """A command as a process; it does not outlive the test."""
        with subprocess.Popen(
            [find_program("lima2"), name, *map(str, words)],
            env={**os.environ, "TANGO_HOST": self.database.tango_host},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def command(self, name, *words):
        """Exit code, output, errors of a command."""
        with self.running(name, *words) as process:
            out, err = process.communicate(timeout=50)
            return process.returncode, out, err


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Site(tmp_path_factory.mktemp("client")) as site:
        yield site


@pytest.fixture
def lima(site):
    lima = site.client()
    yield lima
    lima.reset()


def test_an_acquisition_gives_all_frames_the_file_shows_the_same_and_the_books_are_right(
    lima, tmp_path
):
    run = lima.acquire(nb_frames=20, save_to=tmp_path, prefix="all")

    assert run.check().verdict == "all 20 frames are valid"
    frames = list(run.frames())
    assert [frame.idx for frame in frames] == list(range(20))
    assert [int(frame.data.max()) for frame in frames] == [expected(idx) for idx in range(20)]
    assert run.master_file == tmp_path / "all_master.h5"
    with MasterFile(run.master_file) as master:
        for frame, saved in zip(frames, master, strict=True):
            assert np.array_equal(frame.data, saved.data)
            assert frame.timestamp_s > 0
    ledger = run.ledger
    assert ledger.complete
    assert ledger.receiver.tolist() == [0, 1] * 10
    assert run.progress.percent == 100
    assert lima.state == "idle"
    assert lima.run().uuid == run.uuid


def test_few_raw_frames_beside_all_processed_ones_stand_at_their_own_places(lima, tmp_path):
    raw = {"enabled": True, "base_path": str(tmp_path), "filename_prefix": "raw", "sampling": 3}
    changes = {f"processing.saving_input.{name}": value for name, value in raw.items()}
    run = lima.acquire(changes, nb_frames=20, save_to=tmp_path, prefix="all")

    assert run.check().verdict == "all 20 frames are valid"
    kept = list(range(0, 20, 3))
    with MasterFile(tmp_path / "raw_master.h5") as few:
        items = list(few)
        assert [item.idx for item in items if isinstance(item, Frame)] == kept
        assert {item.cause for item in items if item.idx not in kept} == {Validity.VETO}
        assert [int(few.frame(idx).data.max()) for idx in kept] == [expected(idx) for idx in kept]
    assert validate([str(tmp_path / "raw_master.h5")]) == 0
    assert validate([str(tmp_path / "all_master.h5")]) == 0


def test_a_lost_frame_is_a_gap_in_frames_and_not_a_number_in_results(lima, tmp_path):
    lima.params["processing.statistics"] = {"enabled": True, "rect_rois": REGIONS}
    run = lima.acquire(DROP, nb_frames=12, save_to=tmp_path, wait=False)

    # Live: nothing of it has to be there yet.
    frames = list(run.frames(timeout_s=10))
    sums = run.results("roi").all(timeout_s=10)

    assert [one.idx for one in frames] == list(range(12))
    assert [one.idx for one in frames if not isinstance(one, Frame)] == [LOST]
    assert frames[LOST].cause is Validity.DROPPED
    assert sums.shape == (12, 2)
    assert sums["frame_idx"][:, 0].tolist() == list(range(12))
    assert np.isnan(sums["sum"][LOST]).all()
    there = [idx for idx in range(12) if idx != LOST]
    assert sums["sum"][there].tolist() == [
        [frames[idx].data[0, :8, x : x + 8].sum() for x in (0, 40)] for idx in there
    ]
    assert not run.wait(10).complete
    assert run.ledger.where().tolist() == [LOST]
    assert f"1 {Validity.DROPPED.words}" in run.verdict


def test_records_of_parts_of_frames_are_those_of_whole_frames(lima):
    across = {"topleft": {"x": 5, "y": 7}, "dimensions": {"x": 30, "y": 18}}
    lima.params["processing.statistics"] = {"enabled": True, "rect_rois": [*REGIONS, across]}
    lima.params["processing.profiles"] = {
        "enabled": True,
        "rois": [across, across],
        "directions": ["horizontal", "vertical"],
    }
    results = []
    for mode in ("round_robin", "partial_frame"):
        run = lima.acquire({"acquisition.det.dispatch_mode": mode}, nb_frames=10)
        results.append([run.results(name).all(timeout_s=10) for name in ("roi", "profiles")])

    assert (run.ledger.receiver == -1).all()  # each has a part of every frame
    for whole, parts in zip(*results, strict=True):
        assert parts.dtype == whole.dtype
        for name in ("frame_idx", "min", "max", "sum"):
            assert np.array_equal(parts[name], whole[name])
        for name in ("avg", "std"):
            np.testing.assert_allclose(parts[name], whole[name], rtol=3e-7)
    assert (results[1][0]["sum"][:, 2] > 0).all()


def test_two_clients_read_the_same_run_at_the_same_time_and_take_nothing_from_each_other(
    site, lima
):
    lima.params["processing.statistics"] = {"enabled": True, "rect_rois": REGIONS}
    run = lima.acquire(nb_frames=100, exposure_s=0.005, wait=False)
    others = [site.client().run() for _ in range(2)]

    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(one.results("roi").all, 10) for one in others]
        frames = [pool.submit(lambda one=one: list(one.frames(timeout_s=10))) for one in others]
        sums = [one.result(30)["sum"] for one in results]
        images = [[int(frame.data.max()) for frame in one.result(30)] for one in frames]

    assert sums[0].shape == (100, 2)
    assert np.array_equal(*sums)
    assert images[0] == images[1] == [expected(idx) for idx in range(100)]
    assert run.wait(10).complete


def test_prepare_start_trigger_and_stop_one_by_one(lima):
    lima.params.acquisition.acq.trigger_mode = "software"
    lima.params.acquisition.acq.nb_frames = 10

    run = lima.prepare()
    assert (lima.state, run.phase) == ("prepared", "prepared")
    lima.start(run)
    frames = run.frames(timeout_s=10)
    for idx in range(2):
        lima.trigger()
        assert next(frames).idx == idx
    with pytest.raises(DeadlineError):
        run.wait(0.1)
    lima.stop()

    assert lima.wait(10) == "idle"
    assert list(frames) == []
    assert run.wait(10).ledger.counts == {Validity.VALID: 2, Validity.NEVER_SENT: 8}


def test_errors_come_as_classes_with_a_remedy(site, lima):
    with pytest.raises(StateError, match="prepareAcq comes first"):
        lima.start()
    with pytest.raises(ParamError, match=r"roi.*lima2 params"):
        lima.prepare({"acquisition.img.roi.topleft.x": 5000})
    run = lima.acquire(nb_frames=2)
    with pytest.raises(NotAvailableError, match="frame 7"):
        run.frame(7)
    with pytest.raises(NotAvailableError, match="TANGO_HOST"):
        _ = Lima2(site.device + "s").state
    run.erase()
    with pytest.raises(NotAvailableError):
        site.client().run(run.uuid).wait(5)


def test_events_tell_a_whole_acquisition(lima):
    lima.params.acquisition.acq.trigger_mode = "software"
    events = lima.events(timeout_s=50)
    assert next(events).state == "idle"
    run = lima.acquire(nb_frames=5, wait=False)
    seen, triggers = [], 0
    for event in events:
        seen.append(event)
        if event.run != run.uuid:
            continue
        if event.phase == "done":
            break
        # A frame comes only once it was told that the one before has come.
        if event.state == "running" and event.progress.received == triggers < 5:
            triggers += 1
            lima.trigger()

    assert triggers == 5
    received = [event.progress.received for event in seen if event.run == run.uuid]
    assert received == sorted(received)
    assert seen[-1].progress.percent == 100


def test_the_parameters_are_shown_and_come_back_by_a_file(site, tmp_path, capsys):
    def shown(*words):
        assert show_params([site.device, *words]) == 0
        return capsys.readouterr().out

    site.client().acquire(nb_frames=1)  # the server shows what was used last
    tree = json.loads(shown("--json"))
    assert "integer in us, > 0" in shown("acquisition.acq.expo_time")
    assert "acquisition.acq.nb_frames = " in shown("acquisition.acq")
    assert json.loads(shown("acquisition.img.flip", "--json")) == "none"
    assert "properties" in json.loads(shown("--schema"))
    tree["acquisition"]["img"]["roi"] = SMALL
    file = tmp_path / "params.json"
    file.write_text(json.dumps({"acquisition": tree["acquisition"]}))

    code, out, err = site.command(
        *("acquire", site.device, "--defaults", "--params", file, "--quiet"),
        *("--frames", 3, "--exposure", 0.001),
    )

    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "complete: all 3 frames are valid"


def test_acquire_saves_tells_the_verdict_and_validate_agrees(site, tmp_path, capsys):
    words = ("--defaults", "--frames", 10, "--exposure", 0.001, "--save", tmp_path)
    roi = ("--set", f"acquisition.img.roi={json.dumps(SMALL)}")

    code, out, _ = site.command("acquire", site.device, *words, *roi, "--prefix", "good")
    lost, told, _ = site.command(
        *("acquire", site.device, *words, *roi, "--prefix", "bad"),
        *("--set", f"acquisition.det.dropped_frame_idx={LOST}"),
    )

    assert (code, lost) == (0, 1)
    assert "complete: all 10 frames are valid" in out
    assert str(tmp_path / "good_master.h5") in out
    assert "incomplete: 9 of 10 frames are valid; 1 dropped" in told
    code, out, _ = site.command("validate", tmp_path / "good_master.h5")
    assert (code, out.splitlines()[-1]) == (0, "the file is what it says")
    assert validate([str(tmp_path / "bad_master.h5")]) == 0
    (tmp_path / "bad_1_00000.h5").unlink()
    assert validate([str(tmp_path / "bad_master.h5")]) == 1
    assert "need bad_1_00000.h5: it does not exist" in capsys.readouterr().out


def test_an_acquisition_that_another_client_stops_is_not_called_complete(site, lima, tmp_path):
    words = ("--defaults", "--frames", 3000, "--exposure", 0.01, "--save", tmp_path)
    roi = ("--set", f"acquisition.img.roi={json.dumps(SMALL)}")
    with site.running("acquire", site.device, *words, *roi) as process:
        uuid = process.stdout.readline().split()[1]
        run = lima.run(uuid)
        assert isinstance(next(run.frames(timeout_s=10)), Frame)

        lima.stop()
        out, _ = process.communicate(timeout=40)

    assert process.returncode == 1
    assert re.search(r"^stopped: \d+ of 3000 frames are valid; \d+ never sent$", out, re.M)
    assert out.splitlines()[-1] == str(run.master_file)
    assert sum(run.counts.values()) == 3000
    assert run.counts == run.ledger.counts


def test_an_acquisition_with_an_end_that_is_ended_from_the_keyboard_has_the_code_for_that(site):
    words = ("--defaults", "--frames", 3000, "--exposure", 0.01)
    roi = ("--set", f"acquisition.img.roi={json.dumps(SMALL)}")
    with site.running("acquire", site.device, *words, *roi) as process:
        assert process.stdout.readline().startswith("run ")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=40)

    assert process.returncode == 130
    assert "never sent" in out


def test_another_pipeline_is_acquired_with_its_parameters_in_any_order(site, lima):
    failing = {
        "processing.failed_on_prepare": True,
        "processing.class_name": "LimaProcessingFailing",
    }
    with pytest.raises(ParamError, match="Prepare was to fail"):
        lima.acquire(failing, nb_frames=3)

    run = lima.acquire({"processing.class_name": "LimaProcessingFailing"}, nb_frames=3)

    lima.prepare()  # the server keeps the pipeline that was used last
    assert run.complete
    assert run.parameters["processing"]["class_name"] == "LimaProcessingFailing"


def test_a_run_that_another_client_has_replaced_is_not_started(lima, site):
    mine = lima.prepare()
    others = site.client().prepare()

    with pytest.raises(StateError, match="was given up"):
        lima.start(mine)
    assert lima.state == "prepared"
    lima.start(others)
    assert others.wait(10).complete


def test_an_acquisition_is_started_and_left_alone(site, capsys):
    words = ("--defaults", "--frames", "2", "--exposure", "0.01", "--no-wait")

    assert acquire([site.device, *words]) == 0

    uuid = capsys.readouterr().out.split()[1]
    assert site.client().run(uuid).wait(10).complete


def test_what_is_refused_is_a_sentence_and_exit_code_1(site, capsys):
    for command, name, words in (
        (acquire, "acquire", ("--frames", "-1")),
        (acquire, "acquire", ("--set", "acquisition.acq.colour=1")),
        (acquire, "acquire", ("--set", "acquisition.acq")),
        (acquire, "acquire", ("--params", "/nowhere")),
        (show_params, "params", ("acquisition.acq.colour",)),
    ):
        assert command([site.device, *words]) == 1
        assert capsys.readouterr().err.startswith(f"lima2 {name}: ")
    code, _, err = site.command("status", site.device + "s")
    assert code == 1
    assert err.startswith("lima2 status: there is no device")
    assert err.count("\n") == 1


def test_an_endless_acquisition_is_watched_and_ended_from_the_keyboard(site, capsys):
    words = ("--defaults", "--frames", 0, "--exposure", 0.01)
    roi = ("--set", f"acquisition.img.roi={json.dumps(SMALL)}")
    with contextlib.ExitStack() as stack:
        watching = stack.enter_context(site.running("watch", site.device, "--timeout", 50))
        assert watching.stdout.readline()  # it is at work
        process = stack.enter_context(site.running("acquire", site.device, *words, *roi))
        uuid = process.stdout.readline().split()[1]
        run = site.client().run(uuid)
        frames = run.frames(timeout_s=10)
        assert isinstance(next(frames), Frame)
        frames.close()
        assert show_status([site.device]) == 0
        status = capsys.readouterr().out
        assert status.startswith("running: ")
        assert f"run {uuid}: running" in status
        assert show_status([site.device, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["run"] == uuid
        assert any(line.startswith("running: ") for line in watching.stdout)

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=40)

        assert "stopping" in err
        assert re.search(r"complete: all \d+ frames are valid", out)
        assert process.returncode == 0
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=40)
        assert watching.returncode == 130


def test_a_client_goes_on_after_its_server_was_restarted(site, lima, tmp_path):
    run = lima.acquire(nb_frames=4, save_to=tmp_path)
    control = site.deployment.servers[0].instance

    site.servers.kill(control)
    with pytest.raises(UnreachableError, match="its server runs"):
        _ = lima.state
    site.servers.restart(control)

    wait = Wait("the server", 10)
    assert wait.ask(lambda: lima.state) == "idle"
    # What was known at its end stays known; the parameters are the client's own.
    assert run.verdict == "all 4 frames are valid"
    with MasterFile(run.master_file) as master:
        assert len(list(master)) == 4
    assert lima.acquire(nb_frames=3).complete
