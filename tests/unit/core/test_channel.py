import pytest

from lima2_core.data.frame import Gap, Validity
from lima2_core.errors import OverrunError
from lima2_core.flow.channel import Channel, ChannelClosedError, ChannelStats, OnFull
from lima2_core.ids import FrameIdx
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.worker import Worker


def lost(idx):
    return Gap(FrameIdx(idx), Validity.OVERRUN)


def test_items_come_out_in_order_with_the_number_of_the_first():
    channel = Channel(10)
    channel.send("ab")
    channel.send("cde")

    assert channel.receive(3) == (0, ["a", "b", "c"])
    assert channel.receive(9) == (3, ["d", "e"])


def test_a_receiver_gets_nothing_when_its_time_has_passed():
    channel = Channel(10)
    channel.send("a")
    channel.receive(1)

    assert channel.receive(1, timeout_s=0.0) == (1, [])
    assert channel.receive(1, timeout_s=0.01) == (1, [])


def test_a_receiver_waits_for_an_item():
    channel = Channel(1)
    got = []
    receiver = Worker("receiver", lambda: got.append(channel.receive(5)))

    channel.send("a")

    assert receiver.join(LIMIT_S)
    assert got == [(0, ["a"])]


def test_a_full_channel_blocks_its_sender_until_there_is_room():
    channel = Channel(2)
    sender = Worker("sender", lambda: channel.send("abcde"))
    assert eventually(lambda: channel.stats().level == 2)

    assert sender.alive
    assert channel.receive(1) == (0, ["a"])
    assert eventually(lambda: channel.stats().sent == 3)
    assert sender.alive
    received = ""
    while len(received) < 4:
        received += "".join(channel.receive(5)[1])

    assert received == "bcde"
    assert sender.join(LIMIT_S)
    assert channel.stats().peak == 2


def test_a_full_channel_fails_and_names_the_first_lost_frame():
    channel = Channel(3, OnFull.FAIL)
    channel.send([lost(10)])

    with pytest.raises(OverrunError, match="queue of 3 is full") as caught:
        channel.send([lost(n) for n in (11, 12, 13, 14)])

    assert caught.value.details["first_lost"] == 13
    assert [item.idx for item in channel.receive(9)[1]] == [10, 11, 12]


def test_a_failing_channel_goes_on_once_there_is_room():
    channel = Channel(1, OnFull.FAIL)
    channel.send("a")
    channel.receive(1)

    channel.send("b")

    assert channel.receive(1) == (1, ["b"])


def test_a_full_channel_puts_gaps_in_the_place_of_what_is_lost():
    channel = Channel(2, OnFull.GAP, gap_of=str.upper)
    channel.send("ab")

    channel.send("cd")

    assert channel.stats() == ChannelStats(
        level=4, capacity=2, sent=4, received=0, peak=4, replaced=2
    )
    assert channel.receive(3) == (0, ["a", "b", "C"])
    channel.send("ef")
    assert channel.receive(9) == (3, ["D", "e", "F"])
    assert channel.stats().replaced == 3


def test_the_gap_policy_needs_to_know_how_to_make_a_gap():
    with pytest.raises(ValueError, match="gap_of"):
        Channel(2, OnFull.GAP)


def test_a_channel_has_room_for_one_at_least():
    assert Channel(0).capacity == 1


def test_a_closed_channel_gives_what_it_holds_and_then_ends():
    channel = Channel(5)
    channel.send("abc")

    channel.close()

    assert channel.receive(2) == (0, ["a", "b"])
    assert channel.receive(2) == (2, ["c"])
    with pytest.raises(ChannelClosedError):
        channel.receive(2)


def test_a_closed_channel_takes_no_more():
    channel = Channel(5)
    channel.close()

    with pytest.raises(ChannelClosedError):
        channel.send("a")


def test_sending_nothing_is_no_mistake_even_if_closed():
    channel = Channel(5)
    channel.close()

    channel.send([])

    assert channel.stats().sent == 0


def end_of(work):
    """Run ``work`` on a thread; a list that gets the error it ends with."""
    errors = []
    return errors, Worker("other end", work, on_failure=errors.append)


@pytest.mark.parametrize("end", [Channel.close, Channel.break_off])
def test_the_end_wakes_every_receiver(end):
    channel = Channel(5)
    ends = [end_of(lambda: channel.receive(1)) for _ in range(3)]

    end(channel)

    for errors, worker in ends:
        assert worker.join(LIMIT_S)
        assert isinstance(errors[0], ChannelClosedError)


@pytest.mark.parametrize("end", [Channel.close, Channel.break_off])
def test_the_end_wakes_a_sender_that_waits_for_room(end):
    channel = Channel(1)
    errors, worker = end_of(lambda: channel.send("ab"))
    assert eventually(lambda: channel.stats().level == 1)

    end(channel)

    assert worker.join(LIMIT_S)
    assert isinstance(errors[0], ChannelClosedError)


def test_breaking_off_drops_what_waits_and_ends_both_ends():
    channel = Channel(5)
    channel.send("abc")

    channel.break_off()

    assert channel.stats().level == 0
    with pytest.raises(ChannelClosedError):
        channel.receive(1)
    with pytest.raises(ChannelClosedError):
        channel.send("d")


def test_stats_tell_level_peak_and_what_passed():
    channel = Channel(4)
    channel.send("abc")
    channel.receive(2)
    channel.send("d")

    assert channel.stats() == ChannelStats(
        level=2, capacity=4, sent=4, received=2, peak=3, replaced=0
    )


def test_many_senders_and_receivers_lose_nothing_and_keep_the_order_of_each():
    channel = Channel(7)
    senders = [
        Worker(
            f"sender-{s}",
            lambda s=s: [channel.send([(s, n), (s, n + 1)]) for n in range(0, 400, 2)],
        )
        for s in range(4)
    ]
    portions = []

    def collect():
        while True:
            portions.append(channel.receive(5))

    receivers = [Worker(f"receiver-{r}", collect, lambda error: None) for r in range(3)]
    assert all(sender.join(LIMIT_S) for sender in senders)
    channel.close()
    assert all(receiver.join(LIMIT_S) for receiver in receivers)

    portions.sort(key=lambda portion: portion[0])
    items = [item for _, portion in portions for item in portion]

    assert [first for first, _ in portions] == [
        sum(len(portion) for _, portion in portions[:k]) for k in range(len(portions))
    ]
    for s in range(4):
        assert [n for sender, n in items if sender == s] == list(range(400))
    assert channel.stats().peak <= 7
