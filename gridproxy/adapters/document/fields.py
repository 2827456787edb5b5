"""Fields: what a document's attribute may hold, and how it is stored.

A value is checked when it is assigned, and containers once more when they are saved, since they may have been
changed in place. What a stored document holds is loaded as it is: other code may have written it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar, overload

from gridproxy.errors import ValidationError, type_name
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.records.file_info import utc_milliseconds
from gridproxy.gridfs.records.ids import id_filter

from .base import BaseDocument

Got = TypeVar("Got")
Given = TypeVar("Given")

_INT64 = 2**63


class Field(Generic[Got, Given]):
    """One attribute of a document; None where nothing was given (but in lists, dicts and files, which are empty then).

    `default` is a value, copied for each new document, or a callable that makes one. A `required` field that is empty
    (None, an empty list or dict, no file) raises `ValidationError` at the save.

    The methods are for kinds of fields, and called by `Document`; `owner` is the document. What raises
    `ValidationError` names the field in it.
    """

    name: str = "value"
    two_forms = False  # whether one value may be stored in several ways

    def __init__(self, *, required: bool = False, default: Given | Callable[[], Given] | None = None) -> None:
        self.required = required
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type[BaseDocument]) -> Self: ...

    @overload
    def __get__(self, instance: BaseDocument, owner: type[BaseDocument]) -> Got: ...

    def __get__(self, instance: BaseDocument | None, owner: type[BaseDocument]) -> Self | Got:
        if instance is None:
            return self
        value: Got = instance.document_state.values[self.name]
        return value

    def __set__(self, instance: BaseDocument, value: Given) -> None:
        instance.document_state.values[self.name] = self.assigned(instance, value)

    def new_value(self, owner: BaseDocument) -> Any:
        """What a new document starts with; raises `ValidationError` for a default that the field cannot hold."""
        made = self._default() if callable(self._default) else deepcopy(self._default)
        return self.assigned(owner, made)

    def assigned(self, owner: BaseDocument, value: Any) -> Any:
        """The value that the document keeps after an assignment; raises `ValidationError`."""
        return None if value is None else self.checked(owner, value)

    def checked(self, owner: BaseDocument, value: Any) -> Any:
        """`value`, which is not None, in the field's own form; raises `ValidationError` for what it cannot hold.

        Each kind of field has its own: here it raises `NotImplementedError`.
        """
        raise NotImplementedError

    def checked_again(self, owner: BaseDocument, value: Any) -> Any:
        """The value before it is saved: the same object, where somebody may hold it to change it in place.

        Raises `ValidationError` for what it was changed to.
        """
        return self.assigned(owner, value)

    def loaded(self, owner: BaseDocument, raw: Any) -> Any:
        """The value of what is stored, as it is; raises nothing, whoever wrote it. `raw` is None for nothing."""
        return raw

    def stored(self, value: Any) -> Any:
        """What is stored of the value."""
        return value

    def untouched(self, raw: Any) -> Any:
        """What `stored` gives of a value that was loaded from `raw` and not changed since."""
        return raw

    def cloned(self, owner: BaseDocument, value: Any) -> Any:
        """The value for a copy of its document."""
        return value

    def files(self, value: Any) -> Iterator[AsyncGridFile]:
        """The files in the value, empty ones too."""
        return iter(())

    def compared(self, owner: BaseDocument, value: Any) -> Any:
        """The stored form of what a query asks for; raises `ValidationError` for what this field cannot hold."""
        return self.stored(self.assigned(owner, value))

    def condition(self, owner: BaseDocument, value: Any) -> Mapping[str, Any]:
        """What a query asks of this field: to be a value, never an operator."""
        return self.equals(self.name, self.compared(owner, value))

    def equals(self, path: str, stored: Any) -> Mapping[str, Any]:
        """What a query asks of a place in a document that may hold this field's value."""
        return {path: id_filter(stored)}

    def refuse(self, wanted: str, value: object) -> ValidationError:
        """The `ValidationError` for a value of the wrong kind, to be raised; it says what is `wanted` and what came."""
        shown = repr(value)
        return ValidationError(
            self.name, f"{wanted} is needed, not {type_name(value)} {shown if len(shown) < 80 else shown[:77] + '...'}"
        )


class StringField(Field[str | None, str | None]):
    """A str."""

    def checked(self, owner: BaseDocument, value: Any) -> str:
        if not isinstance(value, str):
            raise self.refuse("a str", value)
        return value


class IntField(Field[int | None, int | None]):
    """An int that BSON can hold: 64 bits, signed. A bool is none."""

    def checked(self, owner: BaseDocument, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refuse("an int", value)
        if not -_INT64 <= value < _INT64:
            raise ValidationError(self.name, "this int does not fit into the 64 bits of a BSON integer")
        return value


class FloatField(Field[float | None, float | None]):
    """A float (double precision); an int becomes one, where it is not too large. A bool is none."""

    def checked(self, owner: BaseDocument, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.refuse("a float", value)
        try:
            return float(value)
        except OverflowError:
            raise ValidationError(self.name, "this int is too large for a float") from None


class BooleanField(Field[bool | None, bool | None]):
    """A bool."""

    def checked(self, owner: BaseDocument, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.refuse("a bool", value)
        return value


class DateTimeField(Field[datetime | None, datetime | None]):
    """A moment: aware, in UTC, cut to the milliseconds that BSON keeps (a naive one is taken as UTC)."""

    def checked(self, owner: BaseDocument, value: Any) -> datetime:
        if not isinstance(value, datetime):
            raise self.refuse("a datetime", value)
        try:
            return utc_milliseconds(value)
        except OverflowError:
            raise self.refuse("a datetime that exists in UTC", value) from None

    def loaded(self, owner: BaseDocument, raw: Any) -> Any:
        return raw.replace(tzinfo=UTC) if isinstance(raw, datetime) and raw.tzinfo is None else raw


class DictField(Field[dict[str, Any], Mapping[str, Any] | None]):
    """A dict of str (without NUL) to BSON values, a copy of the mapping that was given; empty where none was.

    Values are looked at when they are saved.
    """

    def assigned(self, owner: BaseDocument, value: Any) -> dict[str, Any]:
        return self.checked(owner, {} if value is None else value)

    def checked(self, owner: BaseDocument, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise self.refuse("a mapping", value)
        for key in value:
            if not isinstance(key, str) or "\0" in key:
                raise ValidationError(self.name, f"keys are str without NUL, not {type_name(key)} {key!r}")
        return dict(value)

    def checked_again(self, owner: BaseDocument, value: Any) -> Any:
        checked = self.assigned(owner, value)
        return value if isinstance(value, dict) else checked

    def loaded(self, owner: BaseDocument, raw: Any) -> Any:
        return {} if raw is None else raw

    def untouched(self, raw: Any) -> Any:
        return {} if raw is None else raw

    def cloned(self, owner: BaseDocument, value: Any) -> Any:
        return dict(value) if isinstance(value, dict) else value


class ListField(Field[list[Any], Iterable[Any] | None]):
    """A list, of values that `inner` allows where it is given (a `FileField` too); empty where none was given.

    It is a copy of the iterable that was given (no str, bytes or mapping), and may be changed in place until the save.
    `ValidationError` names the place: `album.0`. A query by a list asks for the whole list, by anything else for an
    item.
    """

    def __init__(
        self,
        inner: Field[Any, Any] | None = None,
        *,
        required: bool = False,
        default: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
    ) -> None:
        super().__init__(required=required, default=default)
        self.inner = inner

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        if self.inner is not None:
            self.inner.__set_name__(owner, name)

    def assigned(self, owner: BaseDocument, value: Any) -> list[Any]:
        return self.checked(owner, [] if value is None else value)

    def checked(self, owner: BaseDocument, value: Any) -> list[Any]:
        if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
            raise self.refuse("a list", value)
        return self._each(owner, list(value), again=False)

    def checked_again(self, owner: BaseDocument, value: Any) -> Any:
        if not isinstance(value, list):
            return self.assigned(owner, value)
        value[:] = self._each(owner, value, again=True)
        return value

    def _each(self, owner: BaseDocument, items: list[Any], *, again: bool) -> list[Any]:
        inner = self.inner
        if inner is None:
            return items
        done = []
        for index, item in enumerate(items):
            check = inner.checked_again if again and item is not None else inner.checked
            try:
                done.append(check(owner, item))
            except ValidationError as error:
                place = f"{self.name}.{index}{error.field.removeprefix(self.name)}"
                raise ValidationError(place, str(error).partition(": ")[2]) from error
        return done

    def loaded(self, owner: BaseDocument, raw: Any) -> Any:
        if not isinstance(raw, list):
            return [] if raw is None else raw
        return list(raw) if self.inner is None else [self.inner.loaded(owner, item) for item in raw]

    def stored(self, value: Any) -> Any:
        if self.inner is None or not isinstance(value, list):
            return value
        return [self.inner.stored(item) for item in value]

    def untouched(self, raw: Any) -> Any:
        if not isinstance(raw, list):
            return [] if raw is None else raw
        return raw if self.inner is None else [self.inner.untouched(item) for item in raw]

    def cloned(self, owner: BaseDocument, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return list(value) if self.inner is None else [self.inner.cloned(owner, item) for item in value]

    def files(self, value: Any) -> Iterator[AsyncGridFile]:
        if self.inner is not None and isinstance(value, list):
            for item in value:
                yield from self.inner.files(item)

    def condition(self, owner: BaseDocument, value: Any) -> Mapping[str, Any]:
        if self.inner is not None and not isinstance(value, list | tuple):
            return self.inner.condition(owner, value)  # the same path: MongoDB looks into the list by itself
        if self.inner is not None and self.inner.two_forms:
            each = [self.inner.equals(f"{self.name}.{n}", item) for n, item in enumerate(self.compared(owner, value))]
            return {"$and": [{self.name: {"$size": len(each)}}, *each]}
        return super().condition(owner, value)

    def compared(self, owner: BaseDocument, value: Any) -> Any:
        # A list is compared with the whole list, anything else with each of its items.
        if isinstance(value, list | tuple):
            return list(value) if self.inner is None else [self.inner.compared(owner, item) for item in value]
        return value if self.inner is None else self.inner.compared(owner, value)
