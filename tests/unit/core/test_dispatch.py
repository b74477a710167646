from itertools import islice, pairwise

import pytest

from lima2_core.camera.dispatch import Share, frames_of, frames_share, keeps_rows
from lima2_core.ids import AcqId, ReceiverIdx

ACQ = AcqId("0b5e4a5e-0000-11ef-8000-000000000001")
RANDOM_ORDER = [[2, 3, 5, 6, 7, 11], [0, 10], [1, 4, 8, 9]]
MODES = ("round_robin", "predictive_random", "full_random")


def taken(mode, n_receivers, nb_frames, acq_id=ACQ, first=0):
    """Frames below ``nb_frames`` of each receiver."""
    result = []
    for receiver in range(n_receivers):
        frames = []
        for idx in frames_of(Share(ReceiverIdx(receiver), n_receivers), mode, acq_id, first=first):
            if idx >= nb_frames:
                break
            frames.append(idx)
        result.append(frames)
    return result


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_receivers", [1, 2, 3, 7])
def test_every_frame_goes_to_exactly_one_receiver(mode, n_receivers):
    shares = taken(mode, n_receivers, 500)

    assert sorted(idx for share in shares for idx in share) == list(range(500))
    assert all(share == sorted(share) for share in shares)


def test_round_robin_deals_in_turn():
    assert taken("round_robin", 3, 10) == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


def test_the_predictive_order_of_two_is_the_one_of_the_contract():
    assert taken("predictive_random", 2, 16) == [
        [0, 1, 2, 5, 8, 9, 10, 13],
        [3, 4, 6, 7, 11, 12, 14, 15],
    ]


def test_the_predictive_order_repeats_after_two_n_n_frames():
    first, _, _ = taken("predictive_random", 3, 36)

    assert [idx + 18 for idx in first if idx < 18] == [idx for idx in first if idx >= 18]


def test_the_random_order_is_that_of_the_acquisition():
    assert taken("full_random", 2, 100) == taken("full_random", 2, 100)
    assert taken("full_random", 2, 100) != taken("full_random", 2, 100, AcqId("another"))


def test_the_random_order_never_changes():
    # Receivers of different versions may work together.
    assert taken("full_random", 3, 12) == RANDOM_ORDER


def test_the_random_order_is_fair():
    counts = [len(share) for share in taken("full_random", 3, 3000)]

    assert all(900 < count < 1100 for count in counts)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first", [0, 1, 5, 18])
def test_a_later_first_frame_leaves_the_order_alone(mode, first):
    whole, late = taken(mode, 3, 60), taken(mode, 3, 60, first=first)

    assert late == [[idx for idx in share if idx >= first] for share in whole]


@pytest.mark.parametrize("mode", MODES)
def test_a_single_receiver_takes_all(mode):
    assert list(islice(frames_of(Share(), mode, ACQ), 5)) == [0, 1, 2, 3, 4]


def test_of_partial_frames_everybody_takes_all():
    assert taken("partial_frame", 3, 5) == [[0, 1, 2, 3, 4]] * 3
    assert taken("partial_frame", 3, 5, first=2) == [[2, 3, 4]] * 3
    assert frames_share("partial_frame", Share(ReceiverIdx(2), 3)).count(5) == 5
    assert frames_share("round_robin", Share(ReceiverIdx(2), 3)).count(5) == 1


@pytest.mark.parametrize("rows", [3, 7, 8, 9, 2048])
@pytest.mark.parametrize("n_receivers", [1, 2, 3])
def test_strips_cover_an_image_evenly_and_in_order(rows, n_receivers):
    strips = [Share(ReceiverIdx(n), n_receivers).strip(rows) for n in range(n_receivers)]

    assert strips[0][0] == 0
    assert strips[-1][1] == rows
    assert all(one[1] == other[0] for one, other in pairwise(strips))
    sizes = [end - first for first, end in strips]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("nb_frames", range(8))
def test_the_counts_in_turn_are_those_of_the_order(nb_frames):
    counts = [Share(ReceiverIdx(receiver), 3).count(nb_frames) for receiver in range(3)]

    assert counts == [len(share) for share in taken("round_robin", 3, nb_frames)]


def test_rows_are_kept_where_everybody_knows_the_order():
    two = Share(ReceiverIdx(1), 2)

    assert keeps_rows("round_robin", two)
    assert keeps_rows("full_random", Share())
    assert keeps_rows("partial_frame", two)
    assert not keeps_rows("predictive_random", two)
    assert not keeps_rows("full_random", two)


@pytest.mark.parametrize(("receiver", "n_receivers"), [(2, 2), (-1, 2), (0, 0)])
def test_a_place_outside_the_system_is_refused(receiver, n_receivers):
    with pytest.raises(ValueError, match="no receiver"):
        Share(ReceiverIdx(receiver), n_receivers)
