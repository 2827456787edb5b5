"""Documents of fields of every kind, a file among them: for tests of the documents themselves."""

from __future__ import annotations

from gridproxy.adapters.document import DateTimeField, DictField, Document, FileField, IntField, ListField, StringField


class Animal(Document):
    genus = StringField()
    legs = IntField()
    born = DateTimeField()
    tags = ListField(StringField())
    anything = ListField()
    extra = DictField()
    photo = FileField()


class Keeper(Document, collection="staff"):
    name = StringField()
