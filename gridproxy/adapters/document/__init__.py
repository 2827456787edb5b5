"""A small asynchronous `Document` on pymongo alone, with the declarations of MongoEngine."""

from .base import BaseDocument
from .fields import BooleanField, DateTimeField, DictField, Field, FloatField, IntField, ListField, StringField
from .file_fields import FileField, ImageField
from .model import Document
from .query import QuerySet

__all__ = [
    "BaseDocument",
    "BooleanField",
    "DateTimeField",
    "DictField",
    "Document",
    "Field",
    "FileField",
    "FloatField",
    "ImageField",
    "IntField",
    "ListField",
    "QuerySet",
    "StringField",
]
