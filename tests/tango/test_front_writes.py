"""Writing the parameters of the front: what cannot be right is refused at once, and says what."""

import json

import pytest
import tango

from tests.tango.devices import reason
from tests.tango.front_rig import SMALL

REGION = "acquisition.img.roi"


def refusal(call):
    """What a refused write tells: the sentence, and the facts."""
    with pytest.raises(tango.DevFailed) as failed:
        call()
    levels, told = reason(failed.value)
    assert levels == ["LIMA_Exception", "API_AttributeFailed"]
    return told["what"], told["errinfo"]


@pytest.mark.parametrize(
    ("name", "value", "path", "sentence"),
    [
        ("acq_expo_time", 1e9, "acquisition.acq.expo_time", "1e+09 s is outside 1e-06 to 10 s"),
        ("acq_expo_time", 10.000001, "acquisition.acq.expo_time", "10.000001 s is outside"),
        ("latency_time", 1e12, "acquisition.acq.latency_time", "1e+12 s is outside 0 to 1 s"),
        ("acq_trigger_mode", 3, "acquisition.acq.trigger_mode", "'gate' is not offered"),
        ("nb_frames_per_trigger", 2**40, "acquisition.acq.nb_frames_per_trigger", "outside 1 to"),
        ("image_roi", [0, 0, 99999, 5], REGION, "5 x 99999 pixels (rows x columns) from row 0"),
        ("image_roi", [0, 2040, 9, 9], REGION, "has 2048 x 2048"),
        ("image_roi", [1, 2, 3], REGION, "4 numbers are wanted, not 3"),
        ("image_roi", [-1, 0, 3, 3], f"{REGION}.topleft.x", "greater than or equal to 0"),
        ("image_bin", [4096, 1], "acquisition.img.binning", "more than the 2048 x 2048"),
        ("image_bin", [1], "acquisition.img.binning", "2 numbers are wanted, not 1"),
        ("image_bin", [0, 1], "acquisition.img.binning.x", "greater than or equal to 1"),
        ("pipeline", "Nothing", "processing.class_name", "there is no pipeline"),
        ("statistics_rois", "{", "processing.statistics", "no JSON text"),
        ("statistics_rois", "{}", "processing.statistics", "give a list of"),
        ("saving_directory", "rel/dir", "processing.saving.base_path", "no absolute path"),
        ("saving_overwrite_policy", "x", "processing.saving.file_exists_policy", "'abort'"),
        ("saving_compression", "rar", "processing.saving.compression", "'bshuf_lz4'"),
        ("fault_policy", "[]", "policy", "expected an object, not list"),
        ("fault_policy", "{", "policy", "no JSON text"),
        ("fault_policy", '{"frame_lost": "cry"}', "policy.frame_lost", "'tolerate'"),
        ("fault_policy", '{"tolerated_fraction": "0"}', "policy.tolerated_fraction", "not '0'"),
        ("user_metadata", "[1]", "metadata", "expected an object, not list"),
        ("user_metadata", '{"a": [NaN]}', "metadata", "must be what JSON can hold"),
        ("user_metadata", "[" * 100_000, "metadata", "nested deeper than 64 levels"),
    ],
)
def test_a_refused_write_names_attribute_and_parameter(front, name, value, path, sentence):
    before = front.control.front_params

    what, facts = refusal(lambda: front.control.write_attribute(name, value))

    assert what.startswith(f"{path}: {name} is refused: ")
    assert sentence in what
    assert (facts["path"], facts["attribute"]) == (path, name)
    assert facts["code"] == "param"
    assert front.control.front_params == before


def test_saving_needs_a_folder_and_a_pipeline_that_saves(front):
    front.set(saving_directory="")
    assert front.control.saving_directory == ""

    what, facts = refusal(lambda: front.set(saving_enabled=True))
    assert what.startswith("processing.saving.base_path: saving_enabled is refused: ")
    front.set(saving_directory="/data", saving_enabled=True)
    assert refusal(lambda: front.set(saving_directory=""))[1]["path"] == facts["path"]
    front.set(pipeline="LimaProcessingFailing")
    what, _ = refusal(lambda: front.set(saving_prefix="a"))

    assert what == "processing: saving_prefix is refused: this pipeline writes no files"


def test_the_order_in_which_parameters_are_written_does_not_matter(front):
    front.set(image_bin=[2, 2], image_roi=[0, 0, 2000, 2000])
    front.set(image_bin=[1, 1])
    assert front.prepare().phase == "prepared"
    front.control.abortAcq()
    front.set(image_roi=SMALL, image_bin=[2, 2])
    front.set(image_roi=[500, 500, 48, 32])

    assert front.prepare().phase == "prepared"


@pytest.mark.parametrize(
    ("text", "path", "sentence"),
    [
        ('{"acquisition": {"acq": {"nb_frames": "5"}}}', "acquisition.acq.nb_frames", "not '5'"),
        ('{"acquisition": {"acq": {"nb_frames": 5.0}}}', "acquisition.acq.nb_frames", "not 5.0"),
        ('{"acquisition": {"acq": {"nb_frames": true}}}', "acquisition.acq.nb_frames", "not True"),
        ('{"deferred": "yes"}', "deferred", "not 'yes'"),
        ('{"deferred": 1}', "deferred", "not 1"),
        ('{"processing": {"saving": {"enabled": "yes"}}}', "processing.saving.enabled", "'yes'"),
        ('{"processing": false}', "processing", "expected an object, not bool"),
        ('{"acquisition": {"acq": {"nb_frames": 60000000}}}', None, "books are kept"),
        ('{"acquisition": {"acq": {"expo_time": 10000001}}}', None, "10.000001 s is outside"),
        ("[" * 100_000, "", "nested deeper than 64 levels"),
        ('{"metadata": ' + '{"a": ' * 500 + "1" + "}" * 501, "", "nested deeper than 64 levels"),
        ("9" * 5000, "", "no JSON text"),
        ("[]", "", "expected an object, not list"),
    ],
)
def test_all_parameters_are_as_strict_as_the_client(front, text, path, sentence):
    before = front.control.front_params

    what, facts = refusal(lambda: front.set(front_params=text))

    assert "front_params is refused: " in what
    assert sentence in what
    assert path is None or facts["path"] == path
    assert facts["code"] == "param"
    assert front.control.front_params == before


def test_whole_numbers_lists_and_numbers_are_taken_as_they_are(front):
    tree = front.params()
    tree["policy"] = {"frame_lost": "tolerate", "tolerated_fraction": 1}
    tree["metadata"] = {"a": [1, {"b": None}]}
    front.set(statistics_rois="[[1, 2, 30, 40], [5.5, 6, 10, 20, 0, 90]]")
    tree["processing"]["statistics"] = front.params()["processing"]["statistics"]

    front.set(front_params=json.dumps(tree))

    assert front.params()["policy"]["tolerated_fraction"] == 1.0
    assert front.params()["metadata"] == tree["metadata"]
    assert front.params()["processing"]["statistics"]["enabled"] is True


def test_the_parameters_of_the_contract_stay_lenient(system):
    for device in system.devices:
        device.acq_params = '{"acq": {"nb_frames": "5"}}'

        assert json.loads(device.acq_params)["acq"]["nb_frames"] == 5
    system.receivers[0].proc_params = '{"saving": {"enabled": "no"}}'
    system.receivers[0].proc_params = '{"fifo": {"nb_fifo_frames": 7.0}}'

    assert json.loads(system.receivers[0].proc_params)["fifo"]["nb_fifo_frames"] == 7


def test_limits_that_never_change_are_told_to_panels(front):
    told = {
        name: (config.min_value, config.max_value)
        for name in ("acq_nb_frames", "image_max_size")
        for config in [front.control.get_attribute_config(name)]
    }

    assert told == {"acq_nb_frames": ("0", "50000000"), "image_max_size": ("16", "4096")}
    with pytest.raises(tango.DevFailed, match="acq_nb_frames is above the maximum"):
        front.set(acq_nb_frames=10**15)
    description = front.control.get_attribute_config("acq_nb_frames").description
    assert description.endswith("In front_params: acquisition.acq.nb_frames")
