from collections import OrderedDict
from importlib.metadata import EntryPoint

import pytest

from lima2_core import registry
from lima2_core.camera.params import AcquisitionParams
from lima2_core.errors import PluginError
from lima2_core.registry import CAMERAS, PIPELINES, PluginEntry
from lima2_core.service.requested import Requested

INSTALLED = [
    EntryPoint("Simulator", "collections:OrderedDict", CAMERAS),
    EntryPoint("Absent", "lima2_no_such_module:PLUGIN", CAMERAS),
    EntryPoint("Bare", "collections:NoSuchName", CAMERAS),
    EntryPoint("Legacy", "collections:deque", PIPELINES),
]


@pytest.fixture
def loaded(monkeypatch):
    """Names of the plugins that were loaded."""
    loaded = []
    load = EntryPoint.load
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group: tuple(entry for entry in INSTALLED if entry.group == group),
    )
    monkeypatch.setattr(EntryPoint, "load", lambda e: (loaded.append(e.name), load(e))[1])
    registry.installed.cache_clear()
    yield loaded
    registry.installed.cache_clear()


@pytest.fixture
def searches(monkeypatch):
    """Groups that were looked for on disk."""
    searches = []
    search = registry.entry_points
    monkeypatch.setattr(
        registry, "entry_points", lambda group: (searches.append(group), search(group=group))[1]
    )
    registry.installed.cache_clear()
    return searches


def test_names_are_sorted_and_nothing_is_loaded_for_them(loaded):
    assert registry.names(CAMERAS) == ("Absent", "Bare", "Simulator")
    assert registry.names("lima2.nothing") == ()
    assert loaded == []


def test_what_is_installed_is_looked_for_once_in_the_life_of_a_process(searches):
    requested = Requested(AcquisitionParams)

    for _ in range(3):
        requested.ask_processing("{}")

    assert searches == [PIPELINES]


def test_what_is_installed_meanwhile_is_found_on_demand(loaded, monkeypatch):
    assert "Late" not in registry.names(CAMERAS)
    late = EntryPoint("Late", "collections:Counter", CAMERAS)
    monkeypatch.setattr(registry, "entry_points", lambda group: (late,))

    registry.installed.cache_clear()

    assert registry.names(CAMERAS) == ("Late",)


def test_only_the_plugin_asked_for_is_loaded(loaded):
    assert registry.load(CAMERAS, "Simulator") is OrderedDict
    assert loaded == ["Simulator"]


def test_a_plugin_that_is_missing_is_an_error_that_tells_what_there_is(loaded):
    with pytest.raises(PluginError, match=r"no plugin 'Eiger' .* Absent, Bare, Simulator") as e:
        registry.load(CAMERAS, "Eiger")

    assert e.value.details == {"group": CAMERAS, "name": "Eiger"}
    with pytest.raises(PluginError, match="installed: none"):
        registry.load("lima2.nothing", "Eiger")


def test_names_of_plugins_are_exact(loaded):
    with pytest.raises(PluginError):
        registry.load(CAMERAS, "simulator")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Absent", "ModuleNotFoundError.*lima2_no_such_module"), ("Bare", "AttributeError")],
)
def test_a_plugin_that_does_not_load_keeps_its_reason(loaded, name, reason):
    with pytest.raises(PluginError, match=f"{name}.*does not load: {reason}"):
        registry.load(CAMERAS, name)


def test_a_survey_tells_of_all_plugins_and_fails_with_none(loaded):
    entries = {entry.name: entry for entry in registry.survey(CAMERAS)}

    assert list(entries) == ["Absent", "Bare", "Simulator"]
    assert entries["Simulator"] == PluginEntry(
        CAMERAS, "Simulator", "collections:OrderedDict", "?", ""
    )
    assert "lima2_no_such_module" in entries["Absent"].failure
    assert entries["Bare"].target == "collections:NoSuchName"


def test_what_this_distribution_installs_is_found_with_its_name():
    entries = list(registry.survey(registry.CAMERAS))

    assert {entry.distribution for entry in entries if entry.name == "Simulator"} == {"lima2-suite"}
