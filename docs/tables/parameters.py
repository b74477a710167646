"""What the parameters are, from their schemas."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lima2_core import registry
from lima2_core.camera.params import AcquisitionParams
from lima2_core.schema import ParamsModel, json_schema
from tables.markdown import code, installed, prose, table

SAVING_PREFIX = "saving"


def cameras_tables() -> str:
    """Parameters of each camera besides those of all."""
    common = set(AcquisitionParams.model_fields)
    parts = []
    for plugin in installed(registry.CAMERAS):
        parts.append(f"### {plugin.name}\n\n{parameters_table(plugin.params, without=common)}")
    return "\n".join(parts)


def pipelines_tables() -> str:
    """Parameters of each pipeline."""
    parts = []
    for plugin in installed(registry.PIPELINES):
        about = prose(plugin.params.__doc__)
        parts.append(f"### {plugin.class_name}\n\n{about}\n\n{parameters_table(plugin.params)}")
    return "\n".join(parts)


def parameters_table(model: type[ParamsModel], without: Collection[str] = ()) -> str:
    """The parameters of a model, one per line; groups ``without`` are left out."""
    schema = json_schema(model)
    rows = [
        row
        for name, node in schema["properties"].items()
        if name not in without
        for row in _rows(name, node)
    ]
    return table(("parameter", "type", "unit", "default", "allowed", "meaning"), rows)


def _rows(path: str, node: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    doc = prose(node.get("description"))
    if "properties" in node:
        if path.startswith(SAVING_PREFIX):
            prefix = node["properties"]["filename_prefix"]["default"]
            told = f"{doc} A saving block, see below; its prefix is `{prefix}`."
            yield (code(path), "group", "", "", "", told)
            return
        yield (f"**{path}**", "", "", "", "", doc)
        for name, child in node["properties"].items():
            yield from _rows(f"{path}.{name}", child)
        return
    items = node.get("items")
    kind = node.get("type", "")
    if isinstance(items, Mapping):
        kind = f"list of {items.get('type', 'values')}"
    default = _json_text(node["default"]) if "default" in node else ""
    yield (code(path), str(kind), str(node.get("unit", "")), default, _limits(node), doc)
    if isinstance(items, Mapping):
        if "properties" in items:
            for name, child in items["properties"].items():
                yield from _rows(f"{path}[].{name}", child)
        elif "enum" in items:
            yield (code(f"{path}[]"), str(items.get("type", "")), "", "", _limits(items), "")


def _json_text(value: object) -> str:
    """A default, short enough for a table."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)} with its defaults"
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(value) if value != "" else "empty"


def _limits(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(code(value) for value in node["enum"])
    words = {
        "minimum": ">= {:g}",
        "exclusiveMinimum": "> {:g}",
        "maximum": "<= {:g}",
        "exclusiveMaximum": "< {:g}",
        "maxItems": "at most {:g}",
    }
    return ", ".join(words[key].format(node[key]) for key in words if key in node)
