"""The pydantic schema of a file field: its accepted values, dumps and JSON schema, and the options of its default.

`AsyncGridFile.__get_pydantic_core_schema__` returns it. pydantic is imported only if a model asks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ForwardRef, TypeVar, get_args

from bson import ObjectId

from gridproxy.errors import BadId, BadOption, BadSource, shown, type_name

from .attachment import Attachment, Proof
from .options import FileOptions
from .state import FileState, HasState, state_in
from .values import assign, parse_input, stored_value

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core.core_schema import CoreSchema, SerializationInfo

F = TypeVar("F", bound=HasState)

_BYTES = bytes | bytearray | memoryview
_OBJECT_ID = {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"}


def file_schema(kind: type[F], options: FileOptions, *, plain: bool) -> CoreSchema:
    """Return the core schema of a field that holds a file, which is empty if no value or null was given.

    `plain`: the constructor of the class does no more than to make the state.

    The field accepts a file, an `ObjectId`, 24 hex digits, a snapshot or None, and from Python also content. Any other
    value is a validation error that names it. In Python mode it dumps an `ObjectId` or None, in JSON mode hex or null,
    and a snapshot if the options say so.
    """
    from pydantic_core import core_schema  # noqa: PLC0415  # an extra, which the caller has

    def from_python(value: object) -> F:
        if value is None or type(value) is ObjectId:  # as documents are loaded
            if plain:
                file = kind.__new__(kind)
                file.state = FileState(value, options)
            else:
                file = kind(value, options=options)
            proof = Proof.LOADED if value is not None and _is_loading() else Proof.NONE
            file.state.attachment = Attachment((value, None), None, "", proof)
            return file
        # Frameworks parse JSON first and validate the result as Python: a list from there is not content.
        if isinstance(value, list | tuple) and not (value and all(isinstance(each, _BYTES) for each in value)):
            raise _refusal(f"a file's id, a snapshot, null or content is needed, not {type_name(value)} {shown(value)}")
        loading = isinstance(value, str | Mapping) and _is_loading()
        return _given(kind, value, options, Proof.LOADED if loading else Proof.NONE)

    def from_json(value: object) -> F:
        if value is None or isinstance(value, str | Mapping):
            return _given(kind, value, options)
        raise _refusal(
            f"a file's id (24 hex digits), a snapshot or null is needed, not {type_name(value)} {shown(value)}"
        )

    return core_schema.with_default_schema(
        core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_plain_validator_function(from_json),
            python_schema=core_schema.no_info_plain_validator_function(from_python),
            serialization=core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True),
            metadata={"gridproxy_store": options.store},
        ),
        default_factory=lambda: _given(kind, None, options),
    )


def file_json_schema(schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """Return the JSON schema of such a field: an id or null, and a snapshot if the field stores one."""
    inner = schema["schema"] if schema["type"] == "default" else schema
    forms: list[dict[str, Any]] = [{**_OBJECT_ID, "description": "The id of a file in GridFS."}]
    if inner["metadata"]["gridproxy_store"] == "snapshot":
        forms.append(_SNAPSHOT)
    return {"anyOf": [*forms, {"type": "null"}]}


_SNAPSHOT: dict[str, Any] = {
    "type": "object",
    "description": "The id and the metadata of a file in GridFS.",
    "properties": {
        "_id": _OBJECT_ID,
        "filename": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "length": {"type": "integer", "minimum": 0, "description": "In bytes."},
        "chunk_size": {"type": "integer", "minimum": 0, "description": "In bytes."},
        "content_type": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "upload_date": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
        "metadata": {"type": "object"},
    },
    "required": ["_id"],
}


def pydantic_fields(kind: Any) -> Any:
    """Return the fields of a pydantic model, without importing pydantic. None for any other class."""
    return kind.model_fields if hasattr(kind, "__pydantic_fields_set__") else None


def apply_options_to_default(file: HasState, model: Any, field: str) -> None:
    """Give a field's default the options that the field is annotated with, since pydantic validates no default.

    Raises `BadId` for a file in another bucket, and `BadOption` if the annotation cannot be read.
    """
    declared = pydantic_fields(model).get(field)
    if declared is not None and isinstance(declared.annotation, str | ForwardRef):
        # If only a subclass was used, only the subclass is complete.
        model.model_rebuild(raise_errors=False)
        declared = pydantic_fields(model).get(field)
        if isinstance(declared.annotation, str | ForwardRef):
            raise BadOption(
                f"{model.__qualname__}.{field}: its annotation {declared.annotation!r} cannot be read yet. It may hold "
                f"options for its default: {model.__qualname__}.model_rebuild() first, or leave the default out"
            )
    if declared is None:  # a class variable, or a private attribute
        return
    said = [*declared.metadata, *parts_of(declared.annotation)]
    options = next((each for each in said if isinstance(each, FileOptions)), None)
    if options is not None:
        assign(file, file, options.for_field(field))


def parts_of(annotation: object) -> Iterator[object]:
    """Yield the annotation and its parts: `list[str] | None` has `list[str]`, `str` and `NoneType` in it."""
    waiting: list[Any] = [annotation]
    aliases: list[object] = []
    while waiting:
        part = waiting.pop(0)
        yield part
        waiting += get_args(part)
        if hasattr(part, "__value__") and part not in aliases:  # a type alias, which may contain itself
            aliases.append(part)
            waiting.append(part.__value__)


def _is_loading() -> bool:
    """Return whether `model_validate` made the validator's call, as it does for stored documents.

    pydantic does not tell a validator whether a model is constructed or loaded, and only a loaded one owns its files.
    """
    caller = sys._getframe(2)  # noqa: SLF001  # the validator's caller. There is no public way to ask
    return caller.f_code.co_name == "model_validate" and caller.f_globals.get("__name__") == "pydantic.main"


def _given(kind: type[F], value: object, options: FileOptions, proof: Proof = Proof.NONE) -> F:
    try:
        file = parse_input(kind, value, options)
    except (BadId, BadSource) as error:
        raise _refusal(str(error)) from error
    file.state.attach_unowned(proof)
    return file


def _refusal(reason: str) -> Exception:
    from pydantic_core import PydanticCustomError  # noqa: PLC0415  # see file_schema

    return PydanticCustomError("grid_file", "{reason}", {"reason": reason})


def _dumped(file: Any, info: SerializationInfo) -> object:
    state = state_in(file)
    if state is not None and state.content is not None:
        raise ValueError(
            "content was assigned to this field and is not stored yet: `await model.field.put(content)`, or save the "
            "document, if its class has the mixin of its ODM: FileDocument in Beanie, FileModel and AsyncEngine in "
            "ODMantic"
        )
    if isinstance(file, _BYTES):
        raise ValueError(
            "this field holds content in the place of a file, because the model does not validate assignments: `await "
            "model.field.put(content)` instead, or set ConfigDict(validate_assignment=True)"
        )
    value = file if state is None else stored_value(file)
    return _as_json(value) if info.mode_is_json() else value


def _as_json(value: object) -> object:
    from pydantic_core import to_jsonable_python  # noqa: PLC0415  # see file_schema

    return to_jsonable_python(value, fallback=_text)


def _text(value: object) -> str:
    return str(value) if isinstance(value, ObjectId) else repr(value)
