"""An adapter for Mongoz, as docs/adapters.md shows it: what a field needs of an ODM that gridproxy does not know."""

from typing import TYPE_CHECKING, Any

import mongoz
from mongoz.core.db.fields.base import MongozField

from gridproxy import AsyncGridFile
from gridproxy.fields import Attacher, assign, files_in, mark_loaded

if TYPE_CHECKING:
    Mixed = mongoz.Document
else:
    Mixed = object


class FileDocument(Mixed):
    """`class Animal(FileDocument, mongoz.Document): photo: AsyncGridFile`, in the database of `gridproxy.connect`."""

    def __setattr__(self, name: str, value: Any) -> None:
        current = vars(self).get(name)
        if isinstance(current, AsyncGridFile) and not isinstance(value, dict):
            value = assign(current, value, current.options)  # content, a file, an id or None
            value.state.attach(self, name)
        super().__setattr__(name, value)

    def validate_fields_values(self, **data: Any) -> None:
        fields = type(self).model_fields  # Mongoz asks its own fields, and finds pydantic's
        super().validate_fields_values(**{k: v for k, v in data.items() if isinstance(fields.get(k), MongozField)})

    @classmethod
    def from_row(cls, *args: Any, **options: Any) -> Any:
        return mark_loaded(super().from_row(*args, **options))  # it owns the files that it is loaded with

    def files(self) -> list[tuple[str, AsyncGridFile]]:
        return [(path.partition(".")[0], file) for path, file in files_in(self)]

    async def save(self, collection: Any = None, *, session: Any = None) -> Any:
        """Save the document. Assigned content is stored before it, replaced files are removed after it."""
        return await Attacher(self, self.files).save(lambda: self.write(collection, session), session)

    async def write(self, collection: Any, session: Any) -> Any:
        held = {name: vars(self)[name] for name, _ in self.files()}
        result = await super().save(collection, session=session)
        self.__dict__.update(held)  # Mongoz assigns its dump to the document: the files stay the objects that they are
        return result

    async def delete(self, collection: Any = None, *, session: Any = None) -> int:
        """Delete the document, then the files of fields with `on_delete="delete"`."""

        async def delete() -> bool:
            return bool(await super(FileDocument, self).delete(collection, session=session))

        await Attacher(self, self.files).delete(delete, session)
        return 1
