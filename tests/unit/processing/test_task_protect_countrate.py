import logging
import stat
import sys

import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.errors import ParamError, PipelineError
from processing.kernels.marks import Marks
from processing.params import CountrateProtectionParams
from processing.tasks import protect_countrate
from processing.tasks.protect_countrate import ProtectCountrate

# 1000 counts in 10 ms.
RATE, EXPO_S = 100_000, 0.01


def protection(dtype=np.uint16, allowed=(), **params):
    task = ProtectCountrate(
        CountrateProtectionParams(enabled=True, max_countrate=RATE, **params), EXPO_S, allowed
    )
    task.resolve(FrameSpec((1, 300, 500), np.dtype(dtype)))
    return task


def frame(*counts, dtype=np.uint16, idx=3, rest=0):
    data = np.full((1, 300, 500), rest, dtype)
    data[0, 100 : 100 + len(counts), 400] = counts
    return Frame(idx, data)


@pytest.fixture
def program(tmp_path):
    """Makes a program that notes its arguments, then does as told."""

    def make(then="pass"):
        path = tmp_path / "protect"
        path.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"with open({str(tmp_path / 'calls')!r}, 'a') as calls:\n"
            f"    print(sys.argv[1:], file=calls)\n"
            f"{then}\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


@pytest.fixture
def calls(tmp_path):
    path = tmp_path / "calls"
    return lambda: path.read_text().splitlines() if path.exists() else []


def test_the_limit_itself_is_allowed_and_one_more_is_not():
    task = protection()

    assert task.process(frame(1000)) == 1000
    with pytest.raises(PipelineError, match="counted 1001, more than the 1000 allowed") as failure:
        task.process(frame(1001))
    assert failure.value.details == {"frame_idx": 3, "highest": 1001.0, "limit": 1000.0}


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_pixels_of_the_largest_value_can_be_left_out(dtype):
    limits = np.iinfo(dtype)
    task = protection(dtype, ignore_max_value=True)
    task._limit = 50  # also for 8 bits

    assert task.process(frame(limits.max, 50, dtype=dtype)) == 50
    assert task.process(frame(limits.max, dtype=dtype, rest=limits.max)) == 0
    with pytest.raises(PipelineError, match="counted 51,"):
        task.process(frame(limits.max, 51, dtype=dtype))
    with pytest.raises(PipelineError):
        task.process(frame(limits.max - 1, dtype=dtype, rest=limits.max))


def test_otherwise_they_count():
    with pytest.raises(PipelineError, match="counted 65535"):
        protection().process(frame(65535))


def test_a_pixel_that_is_no_number_hides_no_other():
    task = protection(np.float32)

    assert task.process(frame(np.nan, 500, dtype=np.float32)) == 500
    with pytest.raises(PipelineError):
        task.process(frame(np.nan, 5000, dtype=np.float32))


def test_the_command_is_run_once_with_its_arguments_and_without_a_shell(program, calls, caplog):
    command = program()
    task = protection(
        allowed=(command,), command=command, args=("$HOME; x", "y"), abort_on_protection=False
    )

    with caplog.at_level(logging.WARNING):
        for idx in range(5):
            task.process(frame(2000, idx=idx))

    assert calls() == ["['$HOME; x', 'y']"]
    assert [r.message for r in caplog.records] == [
        "frame 0: a pixel counted 2000, more than the 1000 allowed in an exposure"
    ]


def test_the_command_comes_before_the_end_of_the_run(program, calls):
    command = program()
    task = protection(allowed=(command,), command=command)

    with pytest.raises(PipelineError, match="take beam away"):
        task.process(frame(2000))

    assert len(calls()) == 1


@pytest.mark.parametrize("then", ["sys.exit(3)", "import time; time.sleep(60)"])
def test_a_command_that_fails_or_hangs_ends_the_run_in_any_case(then, program, monkeypatch):
    monkeypatch.setattr(protect_countrate, "COMMAND_LIMIT_S", 0.5)
    command = program(then)
    task = protection(allowed=(command,), command=command, abort_on_protection=False)

    with pytest.raises(PipelineError, match="the command that protects the detector failed: "):
        task.process(frame(2000))


def test_only_commands_that_the_installation_names_are_taken(program):
    command = program()

    with pytest.raises(ParamError, match=r"is not allowed here; .* names: /bin/a, /bin/b"):
        protection(allowed=("/bin/a", "/bin/b"), command=command)
    protection(allowed=("/bin/a", command), command=command)


def photon_protection(output, **params):
    marks = Marks.of(output)
    task = ProtectCountrate(
        CountrateProtectionParams(enabled=True, max_countrate=10_000_000, **params),
        EXPO_S,
        (),
        marks,
    )
    task.resolve(FrameSpec((1, 300, 500), marks.dtype))
    return task, marks


@pytest.mark.parametrize("output", ["int16", "int32", "float32"])
def test_a_saturated_pixel_is_above_any_limit_of_photons_and_one_without_value_is_not(output):
    task, marks = photon_protection(output)  # more than fit into 16 bits

    assert task.process(frame(marks.no_value, 500, dtype=output, rest=marks.no_value)) == 500
    with pytest.raises(PipelineError, match="a pixel is saturated, more than the 100000 allowed"):
        task.process(frame(marks.saturated, 500, dtype=output))


@pytest.mark.parametrize("output", ["int16", "int32", "float32"])
def test_saturated_photons_can_be_left_out(output):
    task, marks = photon_protection(output, ignore_max_value=True)
    task._limit = 600

    assert task.process(frame(marks.saturated, marks.no_value, 500, dtype=output)) == 500
    with pytest.raises(PipelineError, match="counted 601"):
        task.process(frame(marks.saturated, 601, dtype=output))
