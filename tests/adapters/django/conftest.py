"""A Django project on sqlite whose files are in GridFS."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.files.storage import default_storage, storages
from pymongo import MongoClient

from gridproxy.adapters.django import GridFSStorage

if not settings.configured:
    settings.configure(
        SECRET_KEY="only for tests",
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "tests.adapters.django",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        ROOT_URLCONF="tests.adapters.django.urls",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        USE_TZ=True,
        MEDIA_URL="/media/",
        STORAGES={
            "default": {
                "BACKEND": "gridproxy.adapters.django.GridFSStorage",
                "OPTIONS": {"uri": "mongodb://127.0.0.1:1", "database": "unused"},
            },
            "disk": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        },
    )
    django.setup()


@pytest.fixture(scope="module")
def django_database() -> Iterator[None]:
    """Create the tables of Django."""
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", run_syncdb=True, verbosity=0)
    yield
    connections["default"].close()


@pytest.fixture
def storage(mongodb_uri: str) -> Iterator[GridFSStorage]:
    """Make the default storage with an empty bucket. A chunk is 1000 bytes."""
    name = f"gridproxy_django_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    made = GridFSStorage(
        uri=mongodb_uri, database=name, bucket="media", bucket_options={"chunk_size": 1000}, client_options={}
    )
    before = storages["default"]
    storages._storages["default"], default_storage._wrapped = made, made
    yield made
    storages._storages["default"], default_storage._wrapped = before, before
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        client.drop_database(name)
