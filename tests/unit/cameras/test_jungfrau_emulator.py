"""What the emulator puts on the wire, read by a plain socket on loopback."""

import json
import socket

import numpy as np
import pytest

from camera_plugins.jungfrau import emulate
from camera_plugins.jungfrau.emulator import (
    Emulator,
    EmulatorConfig,
    numbered_image,
    numbered_images,
    pattern_image,
    repeated_image,
    stacked_images,
)
from camera_plugins.jungfrau.faults import FaultKind, FaultMix, FaultRule, Faults
from camera_plugins.jungfrau.wire import HEADER, HEADER_BYTES, PACKET_BYTES
from lima2_core.errors import ParamError
from lima2_core.testing.doubles import LIMIT_S

ROWS = 16
PACKETS = 4
LAST = b"the last one"


class Sockets:
    """Destinations, and what came to them."""

    def __init__(self, count):
        self.all = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        for one in self.all:
            one.bind(("127.0.0.1", 0))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)

    @property
    def addresses(self):
        return tuple(one.getsockname() for one in self.all)

    def packets(self, number=0):
        """Headers and sizes of what came."""
        here, found = self.all[number], []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(LAST, here.getsockname())
        here.settimeout(LIMIT_S)  # the computer may take a while to carry even what is sent here
        while True:
            try:
                data = here.recv(65536)
            except TimeoutError:
                assert here.gettimeout() < LIMIT_S, "not even the last packet came"
                return found
            if data == LAST:
                here.settimeout(0.05)  # for those that it may have overtaken
            else:
                found.append((np.frombuffer(data[:HEADER_BYTES], HEADER)[0], data))

    def close(self):
        for one in self.all:
            one.close()


@pytest.fixture
def make_sockets():
    made = []

    def make(count=1):
        made.append(Sockets(count))
        return made[-1]

    yield make
    for sockets in made:
        sockets.close()


def send(addresses, *faults, mix=None, images=numbered_images, **options):
    options = {"rows": ROWS, "frames": 1} | options
    config = EmulatorConfig(destinations=addresses, faults=Faults(faults, mix), **options)
    return Emulator(config, images).run()


def order_of(packets):
    return [
        (int(header["frame_number"]), int(header["packet_number"]) - 62) for header, _ in packets
    ]


def test_a_whole_frame_comes_in_order_with_its_pixels(make_sockets):
    sockets = make_sockets()

    account = send((sockets.addresses,), rows=512, first_frame=9)

    packets = sockets.packets()
    assert [int(header["packet_number"]) for header, _ in packets] == list(range(128))
    assert {len(data) for _, data in packets} == {PACKET_BYTES}
    pixels = b"".join(data[HEADER_BYTES:] for _, data in packets)
    assert pixels == numbered_image(0, 0).tobytes()
    assert account.line().masks[9].all()
    assert account.line().sent == 128


def test_interfaces_and_modules_have_their_own_ports_and_places(make_sockets):
    sockets = make_sockets(4)

    send((sockets.addresses,), modules=2, interfaces=2, modules_per_column=1)

    headers = [sockets.packets(number)[0][0] for number in range(4)]
    assert [(int(h["row"]), int(h["column"])) for h in headers] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [int(header["packet_number"]) for header in headers] == [62, 0, 62, 0]
    assert [int(header["module_id"]) for header in headers] == [1234, 1234, 1235, 1235]


def test_destinations_take_turns_from_the_first_one_asked_for(make_sockets):
    sockets = make_sockets(3)
    entries = tuple((address,) for address in sockets.addresses)

    send(entries, frames=5, first_frame=11, first_entry=2)

    numbers = [sorted({frame for frame, _ in order_of(sockets.packets(n))}) for n in range(3)]
    assert numbers == [[12, 15], [13], [11, 14]]


@pytest.mark.parametrize(
    ("fault", "order"),
    [
        (FaultRule(FaultKind.DROP, frame=0, packet=1), "a0 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3"),
        (FaultRule(FaultKind.SWAP, frame=0, packet=1), "a0 a2 a1 a3 b0 b1 b2 b3 c0 c1 c2 c3"),
        (FaultRule(FaultKind.DOUBLE, frame=1, packet=3), "a0 a1 a2 a3 b0 b1 b2 b3 b3 c0 c1 c2 c3"),
        (FaultRule(FaultKind.DELAY, frame=0, packet=1), "a0 a2 a3 b0 b1 a1 b2 b3 c0 c1 c2 c3"),
        (
            FaultRule(FaultKind.DELAY, frame=0, packet=1, amount=2),
            "a0 a2 a3 b0 b1 b2 b3 c0 c1 a1 c2 c3",
        ),
        (FaultRule(FaultKind.DELAY, frame=2, packet=0), "a0 a1 a2 a3 b0 b1 b2 b3 c1 c2 c3 c0"),
        (FaultRule(FaultKind.SHORT, frame=0, packet=0), "a0 a1 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3"),
    ],
)
def test_faults_by_rule_do_what_they_say(make_sockets, fault, order):
    sockets = make_sockets()

    account = send((sockets.addresses,), fault, frames=3, first_frame=1)

    packets = sockets.packets()
    names = [f"{'abc'[frame - 1]}{packet}" for frame, packet in order_of(packets)]
    assert " ".join(names) == order
    assert account.line().faults == {fault.kind: 1}
    assert account.line().sent == len(packets)
    late = fault.kind is FaultKind.DELAY and fault.amount == 2
    missing = late or fault.kind in (FaultKind.DROP, FaultKind.SHORT)
    assert (account.line().late, account.line().missing) == (late, missing)


def test_foreign_and_impossible_packets_come_beside_the_good_ones(make_sockets):
    sockets = make_sockets()

    account = send(
        (sockets.addresses,),
        FaultRule(FaultKind.FOREIGN, packet=0),
        FaultRule(FaultKind.OUT_OF_RANGE, packet=2),
        frames=2,
    )

    packets = sockets.packets()
    foreign = [len(data) for header, data in packets if header["detector_type"] != 3]
    assert sorted(foreign) == [48 + 6400, PACKET_BYTES]
    assert sum(header["packet_number"] >= 128 for header, _ in packets) == 2
    assert account.line().missing == 0
    assert len(packets) == 2 * PACKETS + 4


def test_a_seed_gives_the_same_faults_again():
    mix = FaultMix({FaultKind.DROP: 0.2, FaultKind.DELAY: 0.2}, seed=3)

    drawn = [mix.draw(0, 0, frame, 128) for frame in range(5)]

    assert drawn == [mix.draw(0, 0, frame, 128) for frame in range(5)]
    assert drawn != [FaultMix(mix.rates, seed=4).draw(0, 0, frame, 128) for frame in range(5)]
    share = sum(len(faults) for faults in drawn) / (5 * 128)
    assert 0.3 < share < 0.5


def test_a_rule_comes_before_the_mix():
    faults = Faults((FaultRule(FaultKind.SHORT, packet=1),), FaultMix({FaultKind.DROP: 1.0}))

    kinds = [fault.kind for fault in dict(sorted(faults.of_frame(0, 0, 0, 3).items())).values()]

    assert kinds == [FaultKind.DROP, FaultKind.SHORT, FaultKind.DROP]


def test_frames_are_sent_at_their_time(make_sockets):
    sockets = make_sockets()

    account = send((sockets.addresses,), frames=5, period_s=0.01)

    assert account.seconds >= 0.04


def test_a_stop_takes_effect_at_the_next_frame(make_sockets):
    sockets = make_sockets()
    asked = []
    config = EmulatorConfig(destinations=(sockets.addresses,), rows=ROWS, frames=100)

    account = Emulator(config, numbered_images).run(lambda: asked.append(1) or len(asked) > 3)

    assert account.frames == 3
    assert len(sockets.packets()) == 3 * PACKETS


def test_a_stop_takes_effect_in_the_middle_of_a_long_exposure(make_sockets):
    sockets = make_sockets()
    asked, exposed = [], []
    config = EmulatorConfig(
        destinations=(sockets.addresses,), rows=ROWS, frames=2, period_s=60.0, exposure_s=60.0
    )
    emulator = Emulator(config, numbered_images, exposed.append)

    account = emulator.run(lambda: asked.append(1) or len(asked) > 2)

    assert account.seconds < 20
    assert (account.frames, exposed) == (0, [])


def test_a_stop_takes_effect_in_the_middle_of_a_long_pause_and_the_frame_is_whole(make_sockets):
    sockets = make_sockets()
    asked = []
    faults = Faults([FaultRule(FaultKind.PAUSE, frame=1, packet=1, amount=60_000)])
    config = EmulatorConfig(destinations=(sockets.addresses,), rows=ROWS, frames=9, faults=faults)

    account = Emulator(config, numbered_images).run(lambda: asked.append(1) or len(asked) > 4)

    assert account.seconds < 20
    assert account.frames == 2
    assert len(sockets.packets()) == 2 * PACKETS


def test_nobody_listening_does_not_stop_the_emulator():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()

    account = send(((address,),), FaultRule(FaultKind.DOUBLE, frame=2), frames=4)

    assert account.frames == 4


def test_images_repeat():
    frames = np.arange(2 * 512 * 1024, dtype=np.uint32).astype(np.uint16).reshape(2, 512, 1024)

    source = stacked_images(frames)

    assert np.array_equal(source(3, 1), frames[1])
    assert np.array_equal(repeated_image(pattern_image())(5, 2), pattern_image())
    assert pattern_image()[:, 700].tolist() == [3 << 14 | row // 4 + 1 for row in range(512)]
    with pytest.raises(ParamError, match="512 x 1024"):
        stacked_images(frames[:, :4])


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"modules": 2}, "destinations.0"),
        ({"rows": 9}, "rows"),
        ({"frames": 0}, "frames"),
        ({"first_frame": 0}, "first_frame"),
        ({"modules": 0}, "modules"),
        ({"modules_per_column": -1}, "modules_per_column"),
        ({"period_s": -1.0}, "period_s"),
        ({"first_entry": 1}, "first_entry"),
    ],
)
def test_what_cannot_be_sent_is_refused(options, path):
    with pytest.raises(ParamError) as caught:
        EmulatorConfig(destinations=((("127.0.0.1", 1),),), **options)

    assert caught.value.path == path


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("melt:frame=1", "the kinds are drop, delay"),
        ("drop:colour=1", "of amount, every, frame"),
        ("drop:frame", "frame has no value"),
        ("drop:frame=x", "frame is a whole number from 0 on, not x"),
        ("drop:frame=-3", "frame is a whole number from 0 on, not -3"),
        ("drop:every=0", "every is a whole number from 1 on, not 0"),
    ],
)
def test_a_fault_that_is_written_wrongly_is_refused_with_what_is_wrong(text, because):
    with pytest.raises(ParamError, match="is no fault") as caught:
        FaultRule.from_text(text)

    assert because in str(caught.value)


@pytest.mark.parametrize(
    "text", ["drop=1.5", "drop=nan", "drop=-1", "drop", "melt=0.1", "drop=x", ","]
)
def test_a_mix_that_is_written_wrongly_is_refused(text):
    with pytest.raises(ParamError, match="is no mix of faults"):
        FaultMix.from_text(text, seed=0)


def test_images_of_which_there_is_none_are_refused():
    with pytest.raises(ParamError, match="no image"):
        stacked_images(np.zeros((0, 512, 1024), np.uint16))


def test_faults_are_read_from_text():
    rule = FaultRule.from_text("delay:frame=3,packet=5,amount=2")

    assert rule == FaultRule(FaultKind.DELAY, frame=3, packet=5, amount=2)
    mix = FaultMix.from_text("drop=0.1,out_of_range=0.2", seed=5)
    assert mix.rates == {FaultKind.DROP: 0.1, FaultKind.OUT_OF_RANGE: 0.2}


def test_the_command_accounts_into_a_file(make_sockets, tmp_path, monkeypatch):
    monkeypatch.setattr(emulate.signal, "signal", lambda *_: None)
    sockets = make_sockets(2)
    entries = [f"{host}:{port}" for host, port in sockets.addresses]
    np.save(tmp_path / "images.npy", numbered_image(0, 0)[np.newaxis])

    status = emulate.main(
        [
            *["jungfrau", "--dest", entries[0], "--dest", entries[1], "--rows", "16"],
            *["--frames", "4", "--fault", "drop:frame=1,packet=0"],
            *["--images", str(tmp_path / "images.npy"), "--account", str(tmp_path / "account")],
        ]
    )

    assert status == 0
    account = json.loads((tmp_path / "account").read_text())
    assert [line["sent"] for line in account["lines"]] == [8, 7]
    assert account["lines"][1]["incomplete"] == {"2": "0e"}
    assert len(sockets.packets(1)) == 7


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--dest", "localhost"], "HOST:PORT"),
        (["--dest", "localhost:65536"], "HOST:PORT"),
        (["--dest", "nowhere.invalid:9"], "no way to nowhere.invalid:9"),
        (["--dest", "127.0.0.1:9", "--account", "/nowhere/account"], "cannot be written"),
    ],
)
def test_the_command_refuses_what_it_cannot_reach(monkeypatch, options, told):
    monkeypatch.setattr(emulate.signal, "signal", lambda *_: None)

    with pytest.raises(ParamError, match=told):
        emulate.main(["jungfrau", *options])


@pytest.mark.parametrize("options", [["--rate", "-1"], ["--seed", "-1"]])
def test_the_command_refuses_negative_numbers(capsys, options):
    with pytest.raises(SystemExit):
        emulate.main(["jungfrau", "--dest", "127.0.0.1:9", *options])

    assert "not negative" in capsys.readouterr().err
