"""What a site says about its JUNGFRAU."""

import pytest

from camera_plugins.jungfrau.backend import first_number
from camera_plugins.jungfrau.installation import Installation, share_of
from camera_plugins.jungfrau.plugin import PLUGIN
from lima2_core.camera.api import CameraEnv
from lima2_core.errors import ParamError


def test_without_properties_it_is_one_emulated_module_on_this_computer():
    installation = Installation.of({})

    assert installation.backend == "emulator"
    assert installation.shape == (512, 1024)
    assert installation.addresses(0, 1) == (("127.0.0.1", 50001),)
    assert installation.addresses(1, 2) == (("127.0.0.1", 50065), ("127.0.0.1", 50066))


def test_addresses_are_lists_and_ranges_of_ports_by_receiver():
    installation = Installation.of(
        {"modules": "3", "udp_addresses": "10.0.1.1:50001-50002, 10.0.1.2:7 ; 10.0.2.1:1-3"}
    )

    assert installation.addresses(0, 3) == (
        ("10.0.1.1", 50001),
        ("10.0.1.1", 50002),
        ("10.0.1.2", 7),
    )
    assert installation.addresses(1, 2) == (("10.0.2.1", 1), ("10.0.2.1", 2))


def test_round_robin_has_an_entry_for_each_receiver_and_parts_have_one_of_all():
    installation = Installation.of({"modules": "2", "udp_addresses": "1.1.1.1:1-2;2.2.2.2:3-4"})
    first, second = (("1.1.1.1", 1), ("1.1.1.1", 2)), (("2.2.2.2", 3), ("2.2.2.2", 4))

    assert installation.destinations(2, partial=False) == (first, second)
    assert installation.destinations(2, partial=True) == ((first[0], second[0]),)


def test_modules_go_to_receivers_in_turn_of_their_numbers():
    installation = Installation.of({"modules": "4", "modules_per_column": "2", "interfaces": "2"})

    assert list(installation.modules_of(share_of(1, 2), partial=True)) == [2, 3]
    assert list(installation.modules_of(share_of(1, 2), partial=False)) == [0, 1, 2, 3]
    assert [installation.place(module, 1) for module in range(4)] == [
        (1, 0),
        (3, 0),
        (1, 1),
        (3, 1),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backend", "fpga"),
        ("modules", "0"),
        ("modules", "many"),
        ("interfaces", "3"),
        ("modules_per_column", "2"),
        ("udp_addresses", "127.0.0.1"),
        ("udp_addresses", "host:50001"),
        ("udp_addresses", "1.2.3.444:5"),
        ("udp_addresses", "127.0.0.1:70000"),
        ("udp_addresses", "127.0.0.1:9-5"),
        ("socket_buffer_mib", "0"),
        ("listener_priority", "100"),
        ("listener_cpus", "1;2"),
        ("listener_cpus", "2,"),
        ("listener_cpus", "5-2"),
        ("listener_cpus", "0-99999"),
        ("udp_addresses", "127.0.0.1:7,127.0.0.1:7"),
        ("udp_addresses", "127.0.0.1:7-8;127.0.0.1:8-9"),
    ],
)
def test_a_wrong_property_is_refused_with_its_name(name, value):
    with pytest.raises(ParamError) as refused:
        Installation.of({name: value})

    assert refused.value.path == f"properties.{name}"


def test_cores_are_numbers_and_ranges_and_have_to_be_there():
    installation = Installation.of({"listener_cpus": " 4, 1-2 "})

    installation.check_cores(range(5))

    assert installation.listener_cpus == (1, 2, 4)
    with pytest.raises(ParamError, match=r"properties\.listener_cpus.* no core 4; .* 0-3"):
        installation.check_cores(range(4))


def test_a_receiver_says_that_a_core_is_not_there_before_any_acquisition():
    with pytest.raises(ParamError, match="no core 8191"):
        PLUGIN.make_receiver(CameraEnv({"listener_cpus": "8191"}))


def test_addresses_that_are_too_few_for_any_run_are_refused():
    site = {"modules": "2", "interfaces": "2"}

    for enough in ("1.1.1.1:1-4;2.2.2.2:1-4", "1.1.1.1:1-2;2.2.2.2:1-2"):
        assert len(Installation.of({**site, "udp_addresses": enough}).receivers) == 2
    with pytest.raises(ParamError, match="receiver 0 has 3 of at least 4 addresses"):
        Installation.of({**site, "udp_addresses": "1.1.1.1:1-3"})


GIVE = "give one for each interface of each module that it takes"


@pytest.mark.parametrize(
    ("modules", "interfaces", "addresses", "sentence"),
    [
        (
            "2",
            "2",
            "1.1.1.1:1",
            f"receiver 0 has 1 of at least 4 addresses; {GIVE} "
            "(2 modules, 2 interfaces per module, 1 receiver)",
        ),
        (
            "3",
            "1",
            "1.1.1.1:1-2;2.2.2.2:1",
            f"receiver 1 has 1 of at least 2 addresses; {GIVE} "
            "(3 modules, 1 interface per module, 2 receivers)",
        ),
        (
            "1",
            "2",
            "1.1.1.1:1-2;2.2.2.2:1",
            f"receiver 1 has 1 of at least 2 addresses; {GIVE} "
            "(1 module, 2 interfaces per module, 2 receivers)",
        ),
        ("1", "1", "1.1.1.1:1,1.1.1.1:1", "1.1.1.1:1 is given more than once; give each port once"),
        (
            "1",
            "1",
            "1.1.1.1:1-3;1.1.1.1:2-3;1.1.1.1:3",
            "1.1.1.1:2, 1.1.1.1:3 are given more than once; give each port once",
        ),
    ],
)
def test_addresses_are_refused_in_plain_words(modules, interfaces, addresses, sentence):
    site = {"modules": modules, "interfaces": interfaces, "udp_addresses": addresses}

    with pytest.raises(ParamError) as refused:
        Installation.of(site)

    assert refused.value.message == f"properties.udp_addresses: {sentence}"


@pytest.mark.parametrize(
    ("receiver", "ports", "sentence"),
    [
        (
            1,
            1,
            "receiver 1 has no addresses; there are those of 1 receiver only: "
            "add the others after semicolons",
        ),
        (0, 3, f"receiver 0 has 2 of 3 addresses; {GIVE}"),
    ],
)
def test_too_few_addresses_are_refused(receiver, ports, sentence):
    installation = Installation.of({"udp_addresses": "127.0.0.1:1-2"})

    with pytest.raises(ParamError) as refused:
        installation.addresses(receiver, ports)

    assert refused.value.message == f"properties.udp_addresses: {sentence}"


def test_every_property_is_declared_and_described():
    for name, text in PLUGIN.properties.items():
        assert name.isidentifier()
        assert text.endswith(".")
    with pytest.raises(ParamError):
        Installation.of(dict.fromkeys(PLUGIN.properties, "nonsense"))


def test_numbers_of_acquisitions_are_apart_and_fit_into_the_detector():
    numbers = {first_number(f"acquisition {count}") for count in range(1000)}

    assert len(numbers) == 1000
    assert all(0 < number < 2**46 and number % 2**24 == 1 for number in numbers)
    assert first_number("a") == first_number("a")
