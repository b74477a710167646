"""Device properties that cannot be right are refused by name, with what would be possible."""

from functools import partial

import pytest

from lima2_core.errors import ParamError
from tango_servers import settings
from tango_servers.settings import TOPOLOGIES

PLACE = settings.check_place
RUNS = partial(settings.check_number, "runs_kept", least=0, most=9)
DEVICES = partial(settings.check_devices, "receivers")
PROGRAMS = partial(settings.check_programs, "allowed_commands")
TOPOLOGY = partial(settings.check_word, "receiver_topology", allowed=TOPOLOGIES)
ONE = partial(settings.the_one, "rows")


@pytest.mark.parametrize(
    "right",
    [
        partial(PLACE, -1, 0),
        partial(PLACE, 1, 2),
        partial(RUNS, 0),
        partial(RUNS, 9),
        partial(DEVICES, []),
        partial(DEVICES, ["id00/limareceiver/a.1", "tango://host:10000/id00/limareceiver/b"]),
        partial(PROGRAMS, ["/bin/true"]),
        partial(TOPOLOGY, ""),
        *(partial(TOPOLOGY, word) for word in TOPOLOGIES),
    ],
    ids=str,
)
def test_what_can_be_right_is_taken(right):
    assert right() is None


@pytest.mark.parametrize(
    ("wrong", "name", "sentence"),
    [
        (partial(PLACE, -2, 0), "receiver_index", "-2 is not possible; .* from -1 to"),
        (partial(PLACE, 0, -1), "nb_receivers", "-1 is not possible"),
        (partial(PLACE, 2, 2), "receiver_index", "2 does not fit to nb_receivers 2"),
        (partial(PLACE, -1, 2), "receiver_index", "-1 does not fit to nb_receivers 2"),
        (partial(RUNS, -1), "runs_kept", "-1 is not possible; give a whole number from 0 to 9"),
        (partial(RUNS, 10), "runs_kept", "10 is not possible"),
        (partial(DEVICES, ["a/b"]), "receivers", "'a/b' is no device; give names such as"),
        (partial(DEVICES, ["a/b/c", "A/b/c"]), "receivers", "'A/b/c' is given twice"),
        (partial(PROGRAMS, ["true"]), "allowed_commands", "'true' is no absolute path"),
        (
            partial(TOPOLOGY, "ring"),
            "receiver_topology",
            "'ring' is unknown; choose single, round_robin or dynamic",
        ),
        (partial(ONE, ["1", "2"]), "rows", r"\['1', '2'\] are 2 texts"),
    ],
    ids=str,
)
def test_what_cannot_is_refused_with_its_name_its_value_and_what_is_possible(wrong, name, sentence):
    with pytest.raises(ParamError, match=sentence) as refused:
        wrong()

    assert refused.value.path == f"properties.{name}"


def test_a_property_of_one_text_may_be_missing_and_blanks_around_it_do_not_count():
    assert ONE([]) == ""
    assert ONE([" 5 "]) == "5"


@pytest.mark.parametrize(
    ("told", "path"),
    [
        (
            "Failed to convert property 'runs_kept' of device 'a/b/c' (value=['many']) to type "
            "DevLong64: invalid literal for int() with base 10: 'many'",
            "properties.runs_kept",
        ),
        ("invalid literal for int() with base 10: 'many'", "properties"),
    ],
)
def test_what_is_no_number_is_told_with_as_much_as_tango_tells(told, path):
    refused = settings.no_number(told)

    assert refused.path == path
    assert "'many'" in str(refused)
    assert "whole number" in str(refused)
