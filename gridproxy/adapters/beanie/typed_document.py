"""The members of a Beanie document that `FileDocument` uses, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lazy_model.nao import NAO as _NAO  # type: ignore[import-untyped]  # it ships no types

# What a lazily parsed document holds in the place of a value that was not read yet.
NAO: object = _NAO

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping
    from typing import Any, ClassVar, Self

    from beanie import PydanticObjectId
    from beanie.odm.settings.document import DocumentSettings
    from pydantic_core import SchemaValidator
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.results import DeleteResult

    from gridproxy.gridfs.store.collections import Session

    class TypedDocument:
        """Beanie's `Document`, as far as `FileDocument` uses it.

        The real class derives from an untyped class, so a type checker knows none of its members.
        """

        id: PydanticObjectId | None
        __pydantic_validator__: ClassVar[SchemaValidator]

        def __init__(self, *args: Any, **values: Any) -> None: ...
        def __copy__(self) -> Self: ...
        def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self: ...
        def __setstate__(self, state: dict[Any, Any]) -> None: ...
        def __iter__(self) -> Iterator[tuple[str, Any]]: ...
        def _parse_value(self, name: str, value: Any) -> Any: ...
        def _set_attr(self, name: str, value: Any) -> None: ...
        def _save_state(self) -> None: ...
        def _collect_updates(self, old_dict: dict[str, Any], new_dict: dict[str, Any]) -> dict[str, Any]: ...
        def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self: ...
        def parse_store(self) -> None: ...

        @classmethod
        def model_validate(cls, obj: Any, **options: Any) -> Self: ...
        @classmethod
        def get_settings(cls) -> DocumentSettings: ...
        @classmethod
        def get_pymongo_collection(cls) -> AsyncCollection[Any]: ...

        def insert(self, *, session: Session | None = None, **options: Any) -> Coroutine[Any, Any, Self]: ...
        def save(self, session: Session | None = None, *args: Any, **options: Any) -> Coroutine[Any, Any, Self]: ...
        def replace(
            self,
            ignore_revision: bool = False,
            session: Session | None = None,
            bulk_writer: Any = None,
            *args: Any,
            **options: Any,
        ) -> Coroutine[Any, Any, Self]: ...
        def save_changes(
            self,
            ignore_revision: bool = False,
            session: Session | None = None,
            bulk_writer: Any = None,
            *args: Any,
            **options: Any,
        ) -> Coroutine[Any, Any, Self | None]: ...
        def update(
            self, *args: Any, session: Session | None = None, bulk_writer: Any = None, **options: Any
        ) -> Coroutine[Any, Any, Self]: ...
        def sync(self, *args: Any, **options: Any) -> Coroutine[Any, Any, None]: ...
        def validate_self(self, *args: Any, **options: Any) -> Coroutine[Any, Any, None]: ...
        def delete(
            self, session: Session | None = None, bulk_writer: Any = None, *args: Any, **options: Any
        ) -> Coroutine[Any, Any, DeleteResult | None]: ...

else:
    TypedDocument = object  # Beanie would treat another subclass of Document as a document
