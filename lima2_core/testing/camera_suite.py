"""Conformance of a camera: what the rest of the suite relies on.

A test file of the plugin's author says which camera, and with which parameters it is quick::

    from lima2_core.testing.camera_suite import CameraCase, CameraSuite


    class TestMyCamera(CameraSuite):
        @pytest.fixture
        def case(self):
            return CameraCase(PLUGIN, tree={"acq": {"expo_time": 1000}})

Time is real here, as a camera may have real hardware behind it; a case should take frames at
some hundred per second.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from lima2_core.camera.api import SourceRequest
from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import IMAGE_OPERATIONS
from lima2_core.data.fields import fields_dtype
from lima2_core.data.frame import PRESENT, Frame, Gap, pixel_type_of
from lima2_core.data.geometry import Affine, Roi
from lima2_core.errors import EndOfFrames, Lima2Error, ParamError
from lima2_core.ids import AcqId
from lima2_core.testing.camera_rig import LIMIT_S, CameraCase, CameraRig, indices, until_the_end

__all__ = ["CameraCase", "CameraRig", "CameraSuite"]

SOON_S = 2.0
"""How long an interrupted source may go on."""
_CHANCES = 3
"""A computer that stands still for a moment makes anything last; it does not do so each time."""


class CameraSuite:
    """The tests; a subclass gives the fixture ``case``."""

    @pytest.fixture
    def case(self) -> CameraCase:
        """Name the camera under test."""
        raise pytest.UsageError("a subclass of CameraSuite gives the fixture 'case'")

    @pytest.fixture
    def rig(self, case: CameraCase) -> Iterator[CameraRig]:
        """A single receiver."""
        with CameraRig(case) as rig:
            yield rig

    def test_it_describes_itself(self, case: CameraCase, rig: CameraRig) -> None:
        info, able = rig.control.info(), rig.control.capabilities()

        assert info.model
        assert info.sn
        assert min(info.rows, info.cols) >= 0
        assert able.trigger_modes
        for low, high in (
            able.expo_time_range_s,
            able.latency_time_range_s,
            able.nb_frames_per_trigger_range,
        ):
            assert 0 <= low <= high
        assert case.plugin.version.count("-") >= 1
        # All of it ends up in JSON texts and in files, which have no place for nothing.
        assert None not in (*info.extra.values(), *rig.control.status().values())
        json.dumps([dict(info.extra), dict(rig.control.status())], allow_nan=False)

    def test_it_refuses_what_it_cannot_do(self, case: CameraCase, rig: CameraRig) -> None:
        able = rig.control.capabilities()
        wrong: dict[str, Any] = {"expo_time": round(able.expo_time_range_s[1] * 1e6) + 1_000_000}
        for mode in ("internal", "software", "external", "gate"):
            if mode not in able.trigger_modes:
                wrong["trigger_mode"] = mode

        for key, value in wrong.items():
            with pytest.raises(ParamError) as refused:
                rig.control.check(case.params(**{key: value}))
            assert refused.value.path == f"acq.{key}"
        assert set(able.image_operations) <= set(IMAGE_OPERATIONS)
        other = {"binning": {"x": 2}, "roi": {"dimensions": {"x": 8, "y": 8}}, "flip": "up_down"}
        for name in set(IMAGE_OPERATIONS) - set(able.image_operations):
            tree = {**case.tree, "img": {name: other[name]}}
            with pytest.raises(ParamError) as refused:
                rig.control.check(case.params(tree))
            assert refused.value.path == f"img.{name}"

    def test_resolving_takes_no_memory(self, case: CameraCase, rig: CameraRig) -> None:
        source = rig.receivers[0].source(
            SourceRequest(AcqId("one"), case.params(nb_frames=1), Share())
        )

        first, second = source.resolve(), source.resolve()

        assert first == second
        assert pixel_type_of(first.dtype)
        assert min(first.shape) > 0
        assert rig.pools.stats() == {}
        source.close()

    def test_frames_are_as_resolved(self, case: CameraCase, rig: CameraRig) -> None:
        (items,) = rig.run(case.params(nb_frames=5))

        (spec,) = rig.specs
        for item in items:
            assert isinstance(item, Frame)
            assert item.data.shape == spec.shape
            assert item.data.dtype == spec.dtype
            assert item.validity in PRESENT
            assert item.timestamp_s >= 0
        assert indices(items) == list(range(5))
        assert rig.control.nb_frames_acquired() == 5

    def test_frames_carry_what_was_declared(self, case: CameraCase, rig: CameraRig) -> None:
        rig.prepare(case.params(nb_frames=5))
        declared = fields_dtype(rig.sources[0].frame_fields)
        rig.control.start()

        assert rig.control.failure() is None
        items = list(until_the_end(rig.sources[0]))

        assert rig.control.failure() is None, "all frames that were due have come"
        assert len(items) == 5
        for item in items:
            assert isinstance(item, Frame)
            if not declared.names:
                assert item.fields is None, "nothing was declared"
            else:
                assert item.fields is not None, "what was declared must come with every frame"
                assert item.fields.dtype == declared

    @pytest.mark.parametrize("n_receivers", [1, 2, 3])
    def test_each_receiver_gets_its_share(self, case: CameraCase, n_receivers: int) -> None:
        if n_receivers > 1 and not case.dispatch:
            pytest.skip("this camera has a single receiver")
        with CameraRig(case, n_receivers) as rig:
            shares = [indices(items) for items in rig.run(case.params(nb_frames=11))]
            expected = [source.expected_frames() for source in rig.sources]

        assert sorted(idx for share in shares for idx in share) == list(range(11))
        for share, count in zip(shares, expected, strict=True):
            assert share == sorted(share)
            assert count in (None, len(share))

    @pytest.mark.parametrize("n_receivers", [1, 2, 3])
    def test_parts_make_up_whole_frames(self, case: CameraCase, n_receivers: int) -> None:
        if case.partial is None:
            pytest.skip("this case gives whole frames only")
        with CameraRig(case) as rig:
            (wholes,) = rig.run(case.params(nb_frames=4))
            whole_spec = rig.specs[0]
        with CameraRig(case, n_receivers) as rig:
            parts = rig.run(case.params(case.partial, nb_frames=4))
            specs, sources = list(rig.specs), list(rig.sources)
            places = [source.placement for source in sources]

            assert all(source.keeps_rows for source in sources)
            assert [source.expected_frames() for source in sources] == [4] * n_receivers
        assert [indices(items) for items in parts] == [[0, 1, 2, 3]] * n_receivers
        covered = np.zeros(whole_spec.shape[1:], int)
        for number, whole in enumerate(wholes):
            assert isinstance(whole, Frame)
            for items, place, spec in zip(parts, places, specs, strict=True):
                item = items[number]
                assert place is not None
                assert isinstance(item, Frame)
                assert (place.rows, place.cols) == whole_spec.shape[1:]
                assert item.data.shape == spec.shape
                step = Affine.crop(place.row, place.col)
                assert spec.affine == whole_spec.affine.then(step)
                area = Roi(place.row, place.col, *spec.shape[1:])
                np.testing.assert_array_equal(item.data, whole.data[:, *area.slices])
                covered[area.slices] += 1
        assert (covered == len(wholes)).all()

    def test_frames_do_not_change_while_they_are_held(
        self, case: CameraCase, rig: CameraRig
    ) -> None:
        rig.prepare(case.params(nb_frames=8))
        rig.control.start()
        first = list(rig.sources[0].next_frames(LIMIT_S))[:2]
        frames = [item for item in first if isinstance(item, Frame)]
        before = [(item.data.copy(), str(item.fields)) for item in frames]

        rest = list(until_the_end(rig.sources[0]))

        assert len(rest) <= 7
        assert len(frames) == len(first)
        for item, (content, told) in zip(frames, before, strict=True):
            np.testing.assert_array_equal(item.data, content)
            assert str(item.fields) == told

    def test_a_lost_frame_is_a_gap(self, case: CameraCase) -> None:
        if case.lossy is None:
            pytest.skip("this case loses no frame")
        with CameraRig(case) as rig:
            (items,) = rig.run(case.params(case.lossy, nb_frames=10))

            assert indices(items) == list(range(10))
            gaps = [item for item in items if isinstance(item, Gap)]
            assert gaps
            assert all(gap.cause not in PRESENT for gap in gaps)

    def test_nothing_due_gives_nothing_after_the_timeout(
        self, case: CameraCase, rig: CameraRig
    ) -> None:
        rig.prepare(case.params(nb_frames=5))
        durations_s = []
        for _ in range(_CHANCES):
            began_s = time.monotonic()
            assert list(rig.sources[0].next_frames(0.1)) == []
            durations_s.append(time.monotonic() - began_s)

        assert 0.05 <= min(durations_s) <= 0.1 + SOON_S

    def test_the_end_stays_the_end(self, case: CameraCase, rig: CameraRig) -> None:
        rig.run(case.params(nb_frames=3))

        for _ in range(2):
            with pytest.raises(EndOfFrames):
                rig.sources[0].next_frames(0.1)

    @pytest.mark.parametrize("started", [False, True])
    def test_an_interrupt_ends_soon(self, case: CameraCase, rig: CameraRig, started: bool) -> None:
        def takes_s() -> float:
            rig.prepare(case.params(nb_frames=1_000_000))
            if started:
                rig.control.start()
                while not rig.sources[0].next_frames(0.05):
                    pass
            began_s = time.monotonic()
            rig.sources[0].interrupt()
            items = list(until_the_end(rig.sources[0]))
            assert started or items == []
            return time.monotonic() - began_s

        assert any(takes_s() < SOON_S for _ in range(_CHANCES))

    def test_an_interrupt_wakes_a_waiting_source(self, case: CameraCase, rig: CameraRig) -> None:
        def takes_s() -> float:
            rig.prepare(case.params(nb_frames=5))
            began_s = time.monotonic()
            timer = threading.Timer(0.05, rig.sources[0].interrupt)
            timer.start()
            items: list[Frame | Gap] = []
            with suppress(EndOfFrames):
                while time.monotonic() - began_s < LIMIT_S:
                    items += rig.sources[0].next_frames(LIMIT_S)
            timer.join()
            assert items == []
            return time.monotonic() - began_s

        assert any(takes_s() < SOON_S for _ in range(_CHANCES))

    def test_a_stop_gives_all_receivers_what_was_exposed(self, case: CameraCase) -> None:
        n_receivers = 2 if case.dispatch else 1
        with CameraRig(case, n_receivers) as rig:
            rig.prepare(case.params(nb_frames=1_000_000))
            rig.control.start()
            early = [list(rig.sources[0].next_frames(LIMIT_S))]

            rig.control.stop()
            for source in rig.sources:
                source.interrupt()
            rest = rig.collect()

            counts = [len(items) for items in rest]
            counts[0] += len(early[0])
            if rig.sources[0].keeps_rows:
                assert max(counts) - min(counts) <= 1
                assert sum(counts) == rig.control.nb_frames_acquired()

    def test_a_source_can_be_made_again(self, case: CameraCase, rig: CameraRig) -> None:
        (first,) = rig.run(case.params(nb_frames=4))
        first_indices = indices(first)
        first.clear()

        (second,) = rig.run(case.params(nb_frames=4))

        assert indices(second) == first_indices == [0, 1, 2, 3]

    def test_messages_of_another_acquisition_are_ignored(
        self, case: CameraCase, rig: CameraRig
    ) -> None:
        rig.run(case.params(nb_frames=4))
        rig.prepare(case.params(nb_frames=4))
        acquisitions = {message.acq_id for message in rig.link.messages}

        for message in tuple(rig.link.messages):
            rig.sources[0].deliver(message)

        assert list(rig.sources[0].next_frames(0.05)) == []
        assert len(acquisitions) <= 1
        rig.control.start()
        assert indices(rig.collect()[0]) == [0, 1, 2, 3]

    def test_each_software_trigger_gives_a_frame(self, case: CameraCase, rig: CameraRig) -> None:
        if "software" not in rig.control.capabilities().trigger_modes:
            pytest.skip("this camera takes no software trigger")
        rig.prepare(case.params(nb_frames=5, trigger_mode="software"))
        rig.control.start()
        assert list(rig.sources[0].next_frames(0.05)) == []

        for _ in range(5):
            rig.control.trigger()

        assert indices(rig.collect()[0]) == [0, 1, 2, 3, 4]

    def test_stop_and_close_are_harmless_at_any_time(
        self, case: CameraCase, rig: CameraRig
    ) -> None:
        def at_rest() -> None:
            for harmless in (rig.control.stop, rig.control.close) * 2:
                harmless()

        steps: tuple[Callable[[], object], ...] = (
            at_rest,
            lambda: rig.prepare(case.params(nb_frames=3)),
            at_rest,
            lambda: rig.run(case.params(nb_frames=3)),
            at_rest,
            lambda: rig.run(case.params(nb_frames=3)),
        )

        for step in steps:
            step()

        assert rig.control.nb_frames_acquired() == 3

    def test_without_an_acquisition_only_errors_of_the_suite_come(self, rig: CameraRig) -> None:
        for command in (rig.control.start, rig.control.trigger):
            with suppress(Lima2Error):
                command()
        rig.control.stop()
        rig.control.close()

        assert rig.control.nb_frames_acquired() == 0

    def test_all_memory_is_given_back(self, case: CameraCase) -> None:
        with CameraRig(case) as rig:
            shares = rig.run(case.params(nb_frames=4))
            shares.clear()
            rig.close()
            rig.close()

            assert [stats.in_use for stats in rig.pools.stats().values() if stats.in_use] == []
