"""ROS messages as JSON, and the JSON schemas of their types. Ids become text, parameters their value."""

from __future__ import annotations

import array
import math
from typing import Any
from uuid import UUID

import numpy as np
from rcl_interfaces.msg import Parameter
from rclpy.parameter import parameter_value_to_python
from unique_identifier_msgs.msg import UUID as UUIDMessage

WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "byte", "char", "octet")


def content_of(message: Any) -> dict[str, Any]:
    """A message as JSON types; a number that is none (NaN, infinite) as null."""
    return {name: _value(getattr(message, name)) for name in message.get_fields_and_field_types()}


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema (draft-07) of a message type as `content_of` writes it."""
    fields = kind.get_fields_and_field_types()
    properties = {name: _schema(text, getattr(kind(), name)) for name, text in fields.items()}
    return {"type": "object", "properties": properties}


def name_of(kind: Any) -> str:
    """The type's name in ROS, such as nano_agent_ros/msg/Reply."""
    return "/".join([kind.__module__.split(".")[0], kind.__module__.split(".")[1], kind.__name__])


def _value(value: Any) -> Any:
    if isinstance(value, UUIDMessage):
        return str(UUID(bytes=bytes(value.uuid.tolist())))
    if isinstance(value, Parameter):
        return {"name": value.name, "value": _value(parameter_value_to_python(value.value))}
    if hasattr(value, "get_fields_and_field_types"):
        return content_of(value)
    if isinstance(value, bytes):  # a byte
        return int.from_bytes(value, "little")
    if isinstance(value, np.ndarray | array.array):
        return [_value(v) for v in value.tolist()]
    if isinstance(value, list | tuple):
        return [_value(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _schema(text: str, value: Any) -> dict[str, Any]:
    if text.startswith("sequence<") or text.endswith("]"):
        inner = text[len("sequence<") : -1].split(",")[0] if text.startswith("sequence<") else text.split("[")[0]
        return {"type": "array", "items": _schema(inner, _default(inner))}
    if isinstance(value, UUIDMessage):
        return {"type": "string"}
    if isinstance(value, Parameter):
        return {"type": "object", "properties": {"name": {"type": "string"}, "value": {}}}
    if hasattr(value, "get_fields_and_field_types"):
        return schema_of(type(value))
    if text == "boolean":
        return {"type": "boolean"}
    if text.startswith(("string", "wstring")):
        return {"type": "string"}
    return {"type": "integer"} if text in WHOLE else {"type": ["number", "null"]}


def _default(text: str) -> Any:
    """An empty message of a type named as `package/Type`; None for what is no message."""
    package, _, name = text.partition("/")
    if not name:
        return None
    module = __import__(f"{package}.msg", fromlist=[name])
    return getattr(module, name)()
