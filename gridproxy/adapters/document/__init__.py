"""A small Document of our own: MongoEngine's way of writing, asynchronous, over pymongo alone."""

from .fields import (
    BooleanField,
    DateTimeField,
    DictField,
    Field,
    FileField,
    FloatField,
    IntField,
    ListField,
    StringField,
)
from .model import Document
from .query import QuerySet

__all__ = [
    "BooleanField",
    "DateTimeField",
    "DictField",
    "Document",
    "Field",
    "FileField",
    "FloatField",
    "IntField",
    "ListField",
    "QuerySet",
    "StringField",
]
