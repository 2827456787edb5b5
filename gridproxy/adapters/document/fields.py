"""Fields: which values an attribute of a document accepts, and how they are stored.

A value is checked on assignment. Containers are checked again on saving, because they may have been changed in place.
Stored values are loaded unchecked, because other code may have written them.
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
    """One attribute of a document. Without a value it is None, or an empty list, dict or file.

    `Document` calls the methods, and a new kind of field overrides them. `owner` is the document. A `ValidationError`
    names the field.

    Args:
        required: Whether a save raises `ValidationError` if the field is empty (None, `[]`, `{}` or no file).
        default: A value, which is copied for each new document, or a callable that returns one.

    ```python
    from gridproxy.adapters.document import Document, Field

    class UpperField(Field[str | None, str | None]):
        def checked(self, owner, value):
            return value.upper()

    class Country(Document):
        code = UpperField(default="no")

    assert Country(code="se").code == "SE"
    ```
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
        """Return the default for a new document. Raises `ValidationError` if the field cannot hold it."""
        made = self._default() if callable(self._default) else deepcopy(self._default)
        return self.assigned(owner, made)

    def assigned(self, owner: BaseDocument, value: Any) -> Any:
        """Return the value that the document keeps after an assignment. Raises `ValidationError`."""
        return None if value is None else self.checked(owner, value)

    def checked(self, owner: BaseDocument, value: Any) -> Any:
        """Return `value`, which is not None, in the field's own form. Each kind of field implements this method.

        Raises:
            ValidationError: The field cannot hold the value.
        """
        raise NotImplementedError

    def checked_again(self, owner: BaseDocument, value: Any) -> Any:
        """Check the value again on saving. A container stays the same object, because the caller may hold it.

        Raises:
            ValidationError: The value was changed to one that the field cannot hold.
        """
        return self.assigned(owner, value)

    def loaded(self, owner: BaseDocument, raw: Any) -> Any:
        """Return the value of `raw`, which is None if nothing is stored. Never raises for a stored value."""
        return raw

    def stored(self, value: Any) -> Any:
        """Return the stored form of the value."""
        return value

    def untouched(self, raw: Any) -> Any:
        """Return what `stored` returns for an unchanged value that was loaded from `raw`."""
        return raw

    def cloned(self, owner: BaseDocument, value: Any) -> Any:
        """Return the value for a copy of the document."""
        return value

    def files(self, value: Any) -> Iterator[AsyncGridFile]:
        """Yield the files in the value, empty ones too."""
        return iter(())

    def compared(self, owner: BaseDocument, value: Any) -> Any:
        """Return the stored form of a value in a query. Raises `ValidationError` if the field cannot hold it."""
        return self.stored(self.assigned(owner, value))

    def condition(self, owner: BaseDocument, value: Any) -> Mapping[str, Any]:
        """Return the filter that compares this field with a value, which is never read as an operator."""
        return self.equals(self.name, self.compared(owner, value))

    def equals(self, path: str, stored: Any) -> Mapping[str, Any]:
        """Return the filter that compares a path in a document with a stored value of this field."""
        return {path: id_filter(stored)}

    def refuse(self, wanted: str, value: object) -> ValidationError:
        """Return the `ValidationError` for a value of the wrong kind. It names what is `wanted` and the value."""
        shown = repr(value)
        return ValidationError(
            self.name, f"{wanted} is needed, not {type_name(value)} {shown if len(shown) < 80 else shown[:77] + '...'}"
        )


class StringField(Field[str | None, str | None]):
    """A str.

    ```python
    from gridproxy.adapters.document import Document, StringField

    class Vole(Document):
        genus = StringField(required=True)

    assert Vole(genus="Microtus").genus == "Microtus"
    ```
    """

    def checked(self, owner: BaseDocument, value: Any) -> str:
        if not isinstance(value, str):
            raise self.refuse("a str", value)
        return value


class IntField(Field[int | None, int | None]):
    """A signed int of at most 64 bits, as BSON holds it. A bool is refused.

    ```python
    from gridproxy.adapters.document import Document, IntField

    class Herd(Document):
        size = IntField(default=2)

    assert Herd().size == 2
    ```
    """

    def checked(self, owner: BaseDocument, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refuse("an int", value)
        if not -_INT64 <= value < _INT64:
            raise ValidationError(self.name, "this int does not fit into the 64 bits of a BSON integer")
        return value


class FloatField(Field[float | None, float | None]):
    """A float of double precision. An int becomes a float if it is not too large, and a bool is refused.

    ```python
    from gridproxy.adapters.document import Document, FloatField

    class Weighing(Document):
        kilograms = FloatField()

    assert Weighing(kilograms=4).kilograms == 4.0
    ```
    """

    def checked(self, owner: BaseDocument, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.refuse("a float", value)
        try:
            return float(value)
        except OverflowError:
            raise ValidationError(self.name, "this int is too large for a float") from None


class BooleanField(Field[bool | None, bool | None]):
    """A bool.

    ```python
    from gridproxy.adapters.document import Document, BooleanField

    class Burrow(Document):
        inhabited = BooleanField(default=False)

    assert Burrow().inhabited is False
    ```
    """

    def checked(self, owner: BaseDocument, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.refuse("a bool", value)
        return value


class DateTimeField(Field[datetime | None, datetime | None]):
    """An aware datetime in UTC, cut to the milliseconds that BSON keeps. A naive datetime is read as UTC.

    ```python
    from datetime import datetime
    from gridproxy.adapters.document import Document, DateTimeField

    class Sighting(Document):
        at = DateTimeField(default=datetime.now)

    assert Sighting(at=datetime(2026, 7, 1)).at.tzname() == "UTC"
    ```
    """

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
    """A dict of str (without NUL) to BSON values: a copy of the given mapping. Its values are checked on saving.

    ```python
    from gridproxy.adapters.document import Document, DictField

    class Map(Document):
        legend = DictField()

    assert Map(legend={"x": "burrow"}).legend["x"] == "burrow"
    ```
    """

    def assigned(self, owner: BaseDocument, value: Any) -> dict[str, Any]:
        return self.checked(owner, {} if value is None else value)

    def checked(self, owner: BaseDocument, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise self.refuse("a mapping", value)
        for key in value:
            if not isinstance(key, str) or "\0" in key:
                raise ValidationError(self.name, f"a key must be a str without NUL, not {type_name(key)} {key!r}")
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
    """A list: a copy of the given iterable, which must not be a str, bytes or a mapping. It may be changed in place.

    A query by a list compares the whole list. A query by another value looks for an item.

    Args:
        inner: The field that each item is checked by, such as a `FileField`. None for items of any type. A
            `ValidationError` names the item, such as `album.0`.
        required: As for `Field`.
        default: As for `Field`.

    ```python
    from gridproxy.adapters.document import Document, FileField, ListField

    class Visit(Document):
        album = ListField(FileField())

    visit = await Visit(album=[b"one", b"two"]).save()
    assert await visit.album[1].read() == b"two"
    ```
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
            return self.inner.condition(owner, value)  # MongoDB compares each item with the same path
        if self.inner is not None and self.inner.two_forms:
            each = [self.inner.equals(f"{self.name}.{n}", item) for n, item in enumerate(self.compared(owner, value))]
            return {"$and": [{self.name: {"$size": len(each)}}, *each]}
        return super().condition(owner, value)

    def compared(self, owner: BaseDocument, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return list(value) if self.inner is None else [self.inner.compared(owner, item) for item in value]
        return value if self.inner is None else self.inner.compared(owner, value)
