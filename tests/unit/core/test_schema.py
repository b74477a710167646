import enum
import json
from typing import Annotated, Any, Literal

import jsonschema_default
import jsonschema_rs
import pytest
from pydantic import Field, model_validator

from lima2_core.camera.params import AcquisitionParams
from lima2_core.errors import Lima2Error, ParamError
from lima2_core.schema import ParamsModel, json_schema, json_tree, json_value, quantity, schema_text


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class RoiParams(ParamsModel):
    """A rectangle."""

    x: int = Field(default=0, ge=0)
    width: int = quantity("pixels", default=1, gt=0)


class ExtraParams(ParamsModel):
    """Present or not."""

    depth: int = 3


class GroupParams(ParamsModel):
    """A group."""

    enabled: bool = False
    roi: RoiParams = RoiParams()


class ExampleParams(ParamsModel):
    """One of everything."""

    class_name: Literal["Example"] = "Example"
    expo_time: int = quantity("us", default=100, gt=0)
    """Integration time."""
    factor: float = 1.5
    name: str = ""
    mode: Literal["fast", "slow"] = "fast"
    colour: Colour = Colour.BLUE
    maybe: float | None = None
    extra: ExtraParams | None = None
    pair: tuple[float, float] = (1.0, 2.0)
    rois: tuple[RoiParams, ...] = ()
    preset: tuple[RoiParams, ...] = (RoiParams(x=1, width=2),)
    labels: dict[str, int] = Field(default_factory=dict)
    group: GroupParams = GroupParams()
    other: GroupParams = GroupParams(enabled=True, roi=RoiParams(x=7))

    @model_validator(mode="after")
    def _factor_fits(self) -> "ExampleParams":
        if self.factor > 100:
            raise ValueError("factor is above 100; choose a smaller one")
        return self


def walk(node: Any):
    """All nodes of a JSON tree that are objects."""
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from walk(child)
    elif isinstance(node, list):
        for child in node:
            yield from walk(child)


def leaves(schema: dict[str, Any], path: str = ""):
    """The leaves of the properties of a schema, by path."""
    for key, child in schema["properties"].items():
        if "properties" in child:
            yield from leaves(child, f"{path}{key}.")
        else:
            yield f"{path}{key}", child


# Reading


def test_what_is_not_given_has_its_default():
    params = ExampleParams.from_json('{"expo_time": 7, "group": {"roi": {"x": 3}}}')

    assert params.expo_time == 7
    assert params.group == GroupParams(roi=RoiParams(x=3))
    assert params.factor == 1.5


def test_a_model_survives_the_way_through_text():
    params = ExampleParams(rois=(RoiParams(x=1), RoiParams(x=2)), colour=Colour.RED)

    assert ExampleParams.from_json(params.to_json()) == params
    assert ExampleParams.from_tree(params.to_tree()) == params


def test_parameters_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        ExampleParams().factor = 2.0


@pytest.mark.parametrize("text", ["", "{", "no json"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ParamError, match="no JSON text"):
        ExampleParams.from_json(text)


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("3", "int"), ("null", "NoneType")])
def test_what_is_no_object_is_refused(text, kind):
    with pytest.raises(ParamError, match=f"expected an object, not {kind}"):
        json_tree(text)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' * 65 + "1" + "}" * 65, "[" * 900 + "]" * 900]
)
def test_what_is_nested_without_end_is_refused(text):
    with pytest.raises(ParamError, match="nested deeper than 64 levels"):
        json_value(text)


def test_what_has_as_many_levels_as_it_may_is_read():
    value = json_value("[" * 64 + "]" * 64)

    for _ in range(63):
        (value,) = value
    assert value == []


def test_a_number_with_too_many_digits_is_refused():
    with pytest.raises(ParamError, match="no JSON text"):
        json_value("9" * 5000)


@pytest.mark.parametrize("tree", [{"factor": "2"}, {"factor": True}])
def test_values_of_another_type_are_refused_where_types_are_strict(tree):
    ExampleParams.from_tree(tree)

    with pytest.raises(ParamError, match="valid number") as refused:
        ExampleParams.from_tree(tree, "here", strict=True)
    assert refused.value.path == "here.factor"


def test_text_that_cannot_be_written_is_refused_without_repeating_everything():
    tree = {"sample": "\ud800", "more": "x" * 1000}

    with pytest.raises(ParamError) as refused:
        ExampleParams.from_tree(tree, strict=True)
    assert len(str(refused.value)) < 200


def test_an_error_of_a_parameter_is_one_of_ours_and_a_value_error():
    assert issubclass(ParamError, Lima2Error)
    assert issubclass(ParamError, ValueError)


@pytest.mark.parametrize(
    ("tree", "path", "reason"),
    [
        ({"expo_time": 0}, "expo_time", "greater than 0, not 0"),
        ({"expo_time": "long"}, "expo_time", "valid integer.*, not 'long'"),
        ({"mode": "idle"}, "mode", "'fast' or 'slow', not 'idle'"),
        ({"group": {"roi": {"width": -1}}}, "group.roi.width", "greater than 0, not -1"),
        ({"rois": [{}, {"x": -1}]}, "rois.1.x", "greater than or equal to 0, not -1"),
        ({"group": 3}, "group", "not 3"),
        ({"factor": 200}, "", "factor is above 100; choose a smaller one"),
    ],
)
def test_a_refused_value_is_told_with_its_path(tree, path, reason):
    with pytest.raises(ParamError, match=reason) as caught:
        ExampleParams.from_tree(tree)

    assert caught.value.path == caught.value.details["path"] == path
    assert caught.value.message.startswith(f"{path}: " if path else "factor")


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ParamError, match="finite") as caught:
        ExampleParams.from_json('{"factor": NaN}')

    assert caught.value.path == "factor"


@pytest.mark.parametrize(
    ("tree", "path", "known"),
    [
        ({"expotime": 3}, "expotime", "class_name, expo_time, factor"),
        ({"group": {"roy": 1}}, "group.roy", "known here: enabled, roi"),
        ({"group": {"roi": {"y": 1}}}, "group.roi.y", "known here: x, width"),
        ({"rois": [{}, {"height": 1}]}, "rois.1.height", "known here: x, width"),
        ({"extra": {"deep": 1}}, "extra.deep", "known here: depth"),
    ],
)
def test_an_unknown_key_is_refused_and_the_known_ones_are_named(tree, path, known):
    with pytest.raises(ParamError, match="unknown parameter; known here: ") as caught:
        ExampleParams.from_tree(tree)

    assert caught.value.path == path
    assert known in caught.value.message


def test_everything_that_is_wrong_is_told_at_once():
    with pytest.raises(ParamError) as caught:
        ExampleParams.from_tree({"expo_time": -1, "group": {"enabled": "si"}, "unknown": 1})

    assert caught.value.path == "expo_time"
    assert caught.value.message.count("; ") >= 2
    for part in ("expo_time: ", "group.enabled: ", "unknown: unknown parameter"):
        assert part in caught.value.message


# The schema

MODELS = pytest.mark.parametrize("model", [ExampleParams, AcquisitionParams])


@MODELS
def test_the_schema_has_no_references(model):
    for node in walk(json_schema(model)):
        assert "$ref" not in node
        assert "$defs" not in node


@MODELS
def test_every_leaf_has_the_default_of_the_model_and_no_object_has_one(model):
    schema = json_schema(model)
    found = dict(leaves(schema))

    defaults = model().to_tree()
    for path, leaf in found.items():
        expected: Any = defaults
        for key in path.split("."):
            expected = expected[key]
        assert leaf["default"] == expected, path
    for node in walk(schema):
        if "properties" in node and isinstance(node.get("type"), str):
            assert "default" not in node


@MODELS
def test_the_default_tree_of_the_known_clients_is_that_of_the_model(model):
    # Twice: what has no default would be random.
    for _ in range(2):
        tree = jsonschema_default.create_from(json.loads(schema_text(model)))

        assert model.from_tree(tree) == model()
        assert tree == model().to_tree()


@MODELS
def test_the_schema_accepts_what_the_model_gives(model):
    validator = jsonschema_rs.validator_for(json.loads(schema_text(model)))

    validator.validate(model().to_tree())


@pytest.mark.parametrize(
    "tree",
    [
        {"unknown": 1},
        {"expo_time": 0},
        {"mode": "idle"},
        {"class_name": "Other"},
        {"group": {"roi": {"x": -1}}},
        {"group": {"unknown": 1}},
        {"rois": [{"x": -1}]},
        {"extra": {"unknown": 1}},
        {"extra": {"depth": "deep"}},
        {"colour": "green"},
        {"labels": {"a": "one"}},
    ],
)
def test_the_schema_refuses_what_the_model_refuses(tree):
    validator = jsonschema_rs.validator_for(json_schema(ExampleParams))

    assert not validator.is_valid(tree)
    with pytest.raises(ParamError):
        ExampleParams.from_tree(tree)


def test_nothing_is_required():
    for node in walk(json_schema(ExampleParams)):
        assert "required" not in node

    jsonschema_rs.validator_for(json_schema(ExampleParams)).validate({})


def test_units_and_descriptions_are_in_the_schema():
    expo_time = json_schema(ExampleParams)["properties"]["expo_time"]

    assert expo_time["unit"] == "us"
    assert expo_time["description"] == "Integration time."
    assert expo_time["exclusiveMinimum"] == 0


def test_a_group_may_change_the_defaults_of_its_model():
    properties = json_schema(ExampleParams)["properties"]

    assert properties["other"]["properties"]["enabled"]["default"] is True
    assert properties["other"]["properties"]["roi"]["properties"]["x"]["default"] == 7
    assert properties["group"]["properties"]["enabled"]["default"] is False


def test_a_constant_is_an_enumeration_of_one():
    class_name = json_schema(ExampleParams)["properties"]["class_name"]

    assert class_name["enum"] == ["Example"]
    assert "const" not in class_name
    assert class_name["default"] == "Example"


def test_a_property_may_be_named_like_a_word_of_the_schema_language():
    class OddParams(ParamsModel):
        title: str = "a"
        default: int = 2
        const: Annotated[int, Field(ge=0)] = 3

    schema = json_schema(OddParams)

    assert jsonschema_default.create_from(schema) == {"title": "a", "default": 2, "const": 3}
    assert set(schema["properties"]) == {"title", "default", "const"}


def test_the_text_is_one_line_of_ascii():
    class MicroParams(ParamsModel):
        """In \N{MICRO SIGN}s."""

        time: int = 0

    text = schema_text(MicroParams)

    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text)["description"] == "In \N{MICRO SIGN}s."


def test_the_schema_names_its_language():
    assert json_schema(ExampleParams)["$schema"] == "http://json-schema.org/draft-07/schema#"
