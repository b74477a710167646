import pytest

import lima2_core
from lima2_core import open_camera
from lima2_core.camera.api import CameraEnv
from lima2_core.errors import CameraError, ParamError, PluginError
from lima2_core.testing.doubles import LIMIT_S, eventually, installed
from lima2_core.testing.fake_camera import FakeCamera, pixels_of
from lima2_core.worker import Worker


@pytest.fixture
def camera():
    camera = FakeCamera()
    with installed(cameras={"Fake": camera.plugin}):
        yield camera


def test_the_frames_of_a_camera_come_in_a_loop(camera):
    with open_camera("Fake", {"acq": {"nb_frames": 5}}) as local:
        frames = {frame.idx: frame.data.copy() for frame in local}
        assert local.spec.shape == (1, 2, 3)

    assert list(frames) == [0, 1, 2, 3, 4]
    for idx, data in frames.items():
        assert data.tolist() == pixels_of(idx).tolist()
    assert camera.calls == ["check", "prepare", "start", "stop", "close"]
    assert camera.sources[-1].closed
    assert camera.closed


def test_what_is_not_given_has_its_default(camera):
    with open_camera("Fake") as local:
        assert len(list(local)) == 1


def test_the_parameters_are_those_that_the_camera_took(camera):
    with open_camera("Fake", {"acq": {"expo_time": 1234}}) as local:
        assert local.params.acq.expo_time == 1230


def test_missing_frames_are_told_apart(camera):
    with open_camera("Fake", {"acq": {"nb_frames": 5}, "det": {"gaps": [1, 3]}}) as local:
        idxs = [frame.idx for frame in local]

    assert idxs == [0, 2, 4]
    assert [gap.idx for gap in local.gaps] == [1, 3]


def test_messages_of_the_control_part_reach_the_source(camera):
    params = {"acq": {"trigger_mode": "software"}}
    with open_camera("Fake", params) as local:
        frames = iter(local)
        next(frames)
        local.trigger()

    assert [message.kind for message in camera.messages] == ["start", "trigger"]


def test_stopping_from_another_thread_ends_the_loop(camera):
    camera.hold()
    with open_camera("Fake", {"acq": {"nb_frames": 0}}) as local:
        idxs = []
        reader = Worker("reader", lambda: idxs.extend(frame.idx for frame in local))
        camera.expose(3)
        assert eventually(lambda: len(idxs) == 3)

        local.stop()

        assert reader.join(LIMIT_S)
    assert idxs == [0, 1, 2]


def test_a_frame_may_be_kept_for_as_long_as_there_are_buffers(camera):
    with open_camera("Fake", {"acq": {"nb_frames": 8}}) as local:
        kept = list(local)

    # Also after the camera is closed.
    assert [int(frame.data[0, 0, 0]) for frame in kept] == list(range(8))


def test_a_camera_that_breaks_is_an_error_in_the_loop_and_is_closed(camera):
    idxs = []
    with (
        pytest.raises(CameraError, match="broke at frame 2"),
        open_camera("Fake", {"acq": {"nb_frames": 5}, "det": {"fail_at": 2}}) as local,
    ):
        idxs.extend(frame.idx for frame in local)

    assert camera.calls[-2:] == ["stop", "close"]
    assert camera.closed


def test_a_camera_that_is_not_installed_is_named(camera):
    with pytest.raises(PluginError, match="'Eiger'"):
        open_camera("Eiger")


def test_a_refused_parameter_is_told_with_its_path(camera):
    with pytest.raises(ParamError, match=r"acq\.nb_frames"):
        open_camera("Fake", {"acq": {"nb_frames": -1}})

    assert camera.calls == []


@pytest.mark.parametrize("where", ["check", "open", "prepare"])
def test_a_camera_that_cannot_be_prepared_leaves_nothing_open(camera, where):
    camera.broken[where] = CameraError("no answer")

    with pytest.raises(CameraError, match="no answer"):
        open_camera("Fake")

    assert camera.closed
    assert all(source.closed for source in camera.sources)


def test_the_environment_of_the_camera_has_the_properties(camera, monkeypatch):
    seen = []
    make_receiver = camera.plugin.make_receiver
    monkeypatch.setattr(
        camera,
        "plugin",
        camera.plugin.__class__(
            "Fake",
            camera.plugin.params,
            camera.plugin.make_control,
            lambda env: (seen.append(env), make_receiver(env))[1],
        ),
    )
    with (
        installed(cameras={"Fake": camera.plugin}),
        open_camera("Fake", properties={"address": "10.0.0.1"}),
    ):
        pass

    (env,) = seen
    assert isinstance(env, CameraEnv)
    assert env.properties == {"address": "10.0.0.1"}


def test_the_names_for_scripts_are_those_of_the_package():
    assert set(lima2_core.__all__) == {"LocalCamera", "open_camera"}
