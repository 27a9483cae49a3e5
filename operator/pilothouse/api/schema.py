"""From pydantic's JSON Schema to Kubernetes' structural OpenAPI v3 schemas.

What a structural schema may hold: Kubernetes documentation, "Extend the Kubernetes API with
CustomResourceDefinitions", section "Specifying a structural schema".
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

# Kept as they are. Everything else of pydantic's is either translated below or unknown here: an error.
_KEPT = frozenset(
    {
        "type",
        "description",
        "enum",
        "format",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
    }
)
# Said by pydantic, of no use to the API server: it drops unknown fields, or refuses them in strict validation.
_DROPPED = frozenset({"title", "propertyNames"})
_INT32_MAX = 2**31 - 1


def structural(model: type[BaseModel]) -> Schema:
    """Return the structural schema of a model, its CEL rules included.

    Raises:
        ValueError: the model uses something of JSON Schema that this translation does not know.
    """
    schema = model.model_json_schema(by_alias=True)
    return _node(schema, schema.get("$defs", {}))


def without_cel(schema: Any) -> Any:
    """Return a schema (or a whole CRD) as Kubernetes before 1.25 takes it."""
    if isinstance(schema, dict):
        return {key: without_cel(value) for key, value in schema.items() if key != "x-kubernetes-validations"}
    return [without_cel(item) for item in schema] if isinstance(schema, list) else schema


def without_defaults(schema: Any) -> Any:
    """Return a schema by which the API server fills nothing in.

    For what an operator writes: a field that it left out and the server put in would look like somebody else's change,
    and be written again for ever.
    """
    if isinstance(schema, dict):
        properties = {name: without_defaults(child) for name, child in schema.get("properties", {}).items()}
        rest = {k: without_defaults(v) for k, v in schema.items() if k not in ("default", "properties")}
        return rest | ({"properties": properties} if properties else {})
    return [without_defaults(item) for item in schema] if isinstance(schema, list) else schema


def _node(source: Schema, definitions: Schema) -> Schema:
    source = _resolved(source, definitions)
    node: Schema = {}
    for key, value in source.items():
        if key in _KEPT or key.startswith("x-kubernetes-"):
            node[key] = value
        elif key == "properties":
            node[key] = {name: _node(child, definitions) for name, child in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
            node[key] = _without_defaults(_node(value, definitions))
        elif key == "anyOf" and source.get("x-kubernetes-int-or-string"):
            node[key] = value
        elif key not in _DROPPED | {"$defs", "default", "additionalProperties"}:
            raise ValueError(f"no translation for {key}: {value!r} in {source}")
    default = _default(source, node)
    if default is not None:
        node["default"] = default
    if node.get("type") == "integer":
        node["format"] = "int32" if 0 < node.get("maximum", 0) <= _INT32_MAX else "int64"
    return node


def _without_defaults(item: Schema) -> Schema:
    """Return the schema of an item of a list or map with no default at any depth.

    The item itself is there or not. And a tool that compares lists as a whole, as Argo CD does, would take what the
    server fills in for somebody's change, for ever: the operator alone fills in what an item leaves out.
    """
    bare = {key: value for key, value in item.items() if key != "default"}
    if "properties" in bare:
        bare["properties"] = {name: _without_defaults(child) for name, child in bare["properties"].items()}
    return bare


def _resolved(source: Schema, definitions: Schema) -> Schema:
    """Put a reference, or the one type of "a type or null", in the place where it is used; what is said there wins."""
    rest = dict(source)
    options = [] if rest.get("x-kubernetes-int-or-string") else rest.pop("anyOf", [])
    wanted = [option for option in options if option != {"type": "null"}]
    if len(wanted) > 1:
        raise ValueError(f"a field of several types is not structural: {source}")
    if wanted:
        return _resolved({**wanted[0], **rest}, definitions)
    if "$ref" in rest:
        name = rest.pop("$ref").rpartition("/")[2]
        return _resolved({**definitions[name], **rest}, definitions)
    return rest


def _default(source: Schema, node: Schema) -> Any:
    """Return the default for the API server to fill in, or None.

    Empty text and lists are left out, so that they do not clutter what `kubectl get` shows. An object gets {}
    where a field in it has a default, because the server looks only into objects that are there.
    """
    if "default" in source:
        return None if source["default"] in ("", []) else source["default"]
    inside = node.get("properties", {}).values()
    optional = not node.get("required")
    return {} if optional and any("default" in child for child in inside) else None
