"""Parameter models: what a user may ask, with units, checked at the border.

A model is frozen, refuses unknown keys and has a default for every leaf. Its JSON schema is
published in the form that the known clients understand: references inlined, a default on every
leaf and none on objects (see `json_schema`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

from lima2_core.errors import ParamError

M = TypeVar("M", bound="ParamsModel")

MOST_LEVELS = 64
"""Of lists and objects within each other, in a JSON text that is read."""


class ParamsModel(BaseModel):
    """Base of all parameter models."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read and check a JSON text.

        Raises:
            ParamError: no JSON, or a value is refused; the path names it.
        """
        return cls.from_tree(json_tree(text))

    @classmethod
    def from_tree(cls, tree: dict[str, Any], where: str = "", *, strict: bool = False) -> Self:
        """Check a tree of dicts, lists and values.

        Args:
            tree: what is asked for.
            where: path of the tree itself, if it is a part of a larger one.
            strict: refuse values of another type, such as "5" for 5 and "yes" for true.

        Raises:
            ParamError: a value is refused; all that is wrong is in the message.
        """
        try:
            if strict:
                # Of JSON text, as only there a list is a tuple to a strict model.
                return cls.model_validate_json(json.dumps(tree), strict=True)
            return cls.model_validate(tree)
        except ValidationError as error:
            raise _param_error(cls, error, where) from error

    def to_tree(self) -> dict[str, Any]:
        """The tree of dicts, lists and values."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """The tree as JSON text in plain ASCII, as Tango strings are Latin-1."""
        return json.dumps(self.to_tree(), separators=(",", ":"))


def json_value(text: str) -> Any:
    """Read any JSON value.

    Raises:
        ParamError: it is no JSON, or nested deeper than anything here.
    """
    try:
        value = json.loads(text)
    except ValueError as error:  # also of numbers with thousands of digits
        raise ParamError(f"this is no JSON text: {error}", path="") from error
    except RecursionError as error:
        raise _too_deep() from error
    layer = [value]
    for _ in range(MOST_LEVELS):
        layer = [inner for outer in layer for inner in _inside(outer)]
        if not layer:
            return value
    raise _too_deep()


def json_tree(text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ParamError: it is something else.
    """
    tree = json_value(text)
    if not isinstance(tree, dict):
        raise ParamError(f"expected an object, not {type(tree).__name__}", path="")
    return tree


def _inside(value: Any) -> Iterable[Any]:
    """The lists and objects directly in a JSON value."""
    if not isinstance(value, dict | list):
        return ()
    members = value.values() if isinstance(value, dict) else value
    return (member for member in members if isinstance(member, dict | list))


def _too_deep() -> ParamError:
    return ParamError(
        f"lists and objects are nested deeper than {MOST_LEVELS} levels; that cannot be meant",
        path="",
    )


def quantity(unit: str, *, default: Any, **limits: Any) -> Any:
    """A field with a physical unit; ``limits`` as for `pydantic.Field` (gt, ge, le ...)."""
    return Field(default=default, json_schema_extra={"unit": unit}, **limits)


def _param_error(model: type[ParamsModel], error: ValidationError, where: str) -> ParamError:
    """One `ParamError` for everything pydantic found; it is about the first one."""
    sentences: list[str] = []
    paths: list[str] = []
    for item in error.errors(include_url=False):
        path = ".".join(str(part) for part in ((where,) if where else ()) + item["loc"])
        reason = str(item["msg"]).removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = ", ".join(_keys_beside(model, item["loc"]))
            reason = f"unknown parameter; known here: {known}"
        elif item["type"] != "json_invalid" and not isinstance(item["input"], dict | list):
            reason = f"{reason}, not {item['input']!r}"
        paths.append(path)
        sentences.append(reason if not sentences else f"{path}: {reason}")
    return ParamError("; ".join(sentences), path=paths[0])


def _keys_beside(model: type[ParamsModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the parameters that could stand at ``loc``."""
    here: Any = model
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        field = here.model_fields.get(part)
        here = _model_in(field.annotation) if field is not None else None
        if here is None:
            return []
    return list(here.model_fields)


def _model_in(annotation: Any) -> type[ParamsModel] | None:
    """The model inside an annotation such as ``Model`` or ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, ParamsModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def json_schema(model: type[ParamsModel]) -> dict[str, Any]:
    """The JSON schema of ``model`` for clients.

    References are inlined, every leaf has its default, and objects have none: what generates
    default trees from schemas ignores a default beside a reference, and invents values for
    leaves without one.
    """
    raw = model.model_json_schema()
    definitions = raw.pop("$defs", {})
    schema = _inlined(raw, definitions, model().to_tree())
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def schema_text(model: type[ParamsModel]) -> str:
    """`json_schema` as one line of ASCII, as the Tango database stores it."""
    return json.dumps(json_schema(model), ensure_ascii=True, separators=(",", ":"))


_NO_DEFAULT = object()


def _inlined(node: dict[str, Any], definitions: dict[str, Any], default: Any) -> dict[str, Any]:
    """``node`` without references and titles, with ``default`` spread over its leaves."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        beside = {key: value for key, value in node.items() if key != "$ref"}
        node = {**definitions[name], **beside}
    out = {key: value for key, value in node.items() if key not in ("title", "default")}
    if "properties" in out:
        values = default if isinstance(default, dict) else {}
        out["properties"] = {
            key: _inlined(child, definitions, values.get(key, _NO_DEFAULT))
            for key, child in out["properties"].items()
        }
        out.pop("required", None)
    else:
        if default is _NO_DEFAULT:
            default = node.get("default", _NO_DEFAULT)
        if default is not _NO_DEFAULT:
            out["default"] = to_jsonable_python(default)
    if "const" in out:
        out["enum"] = [out.pop("const")]
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = _inlined(out[key], definitions, _NO_DEFAULT)
    for key in ("anyOf", "oneOf"):
        if key in out:
            # Known clients take the default of the first choice, whatever stands beside them.
            fitting, *others = sorted(
                out[key], key=lambda choice: (choice.get("type") == "null") != (default is None)
            )
            rest = [_inlined(choice, definitions, _NO_DEFAULT) for choice in others]
            out[key] = [_inlined(fitting, definitions, default), *rest]
    for key in ("allOf", "prefixItems"):
        if key in out:
            out[key] = [_inlined(child, definitions, _NO_DEFAULT) for child in out[key]]
    return out
