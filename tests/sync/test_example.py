"""The first example of docs/sync.md runs in a script, a Celery task, a notebook's cell and a Django view."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from pymongo import MongoClient

ROOT = Path(__file__).parents[2]
_page = (ROOT / "docs" / "sync.md").read_text(encoding="utf-8")
_found = re.search(r"^```py\n(.*?)^```$", _page, re.DOTALL | re.MULTILINE)
assert _found is not None
EXAMPLE = _found[1]

CELERY = """
import contextlib, io, os, sys
from celery import Celery
from celery.contrib.testing.worker import start_worker

app = Celery("zoo", broker="memory://", backend="file://" + sys.argv[1])
app.conf.broker_transport_options = {"polling_interval": 0.01}

@app.task
def example():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(EXAMPLE, {})
    return os.getpid() != parent, printed.getvalue()

if __name__ == "__main__":
    parent = os.getpid()
    exec(EXAMPLE, {})  # the process that forks the workers has a portal, too
    with start_worker(app, pool="prefork", concurrency=2, perform_ping_check=False):
        print([example.delay().get(timeout=30, interval=0.05) for _ in range(2)])
"""

DJANGO = """
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DEBUG_PROPAGATE_EXCEPTIONS=True)
import contextlib, io, django
django.setup()
from django.http import HttpResponse
from django.test import Client
from django.urls import path

def view(request):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(EXAMPLE, {})
    return HttpResponse(printed.getvalue())

urlpatterns = [path("", view)]
print(Client().get("/").content.decode(), end="")
"""

MONGODB_BACKEND = """
import os
from django.conf import settings
uri = os.environ["MONGODB_URI"]
options = {"uri": uri, "database": "zoo", "bucket": "media"}
settings.configure(
    DATABASES={"default": {"ENGINE": "django_mongodb_backend", "HOST": uri, "NAME": "zoo"}},
    INSTALLED_APPS=["django_mongodb_backend"],
    DEFAULT_AUTO_FIELD="django_mongodb_backend.fields.ObjectIdAutoField",
    STORAGES={"default": {"BACKEND": "gridproxy.adapters.django.GridFSStorage", "OPTIONS": options}},
)
import django
django.setup()
from django.core.files.base import ContentFile
from django.db import connection, models

class Animal(models.Model):
    papers = models.FileField(upload_to="papers")
    class Meta:
        app_label = "zoo"

with connection.schema_editor() as editor:
    editor.create_model(Animal)
Animal().papers.save("marmot.txt", ContentFile(b"a marmot"))
found = Animal.objects.get(papers="papers/marmot.txt")
print(found.papers.read().decode())
found.papers.delete()
assert not Animal.objects.get().papers
connection.close()
"""


@pytest.fixture(autouse=True)
def _zoo(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        client.drop_database("zoo")


def run(script: str, *arguments: object) -> str:
    code = f"EXAMPLE = {EXAMPLE!r}\n{textwrap.dedent(script)}"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", [EXAMPLE, DJANGO, MONGODB_BACKEND], ids=["script", "view", "mongodb-backend"])
def test_it_runs_in_a_process_of_its_own(script: str) -> None:
    assert run(script) == "a marmot\n"


def test_it_runs_in_tasks_of_celery(tmp_path: Path) -> None:
    assert run(CELERY, tmp_path) == "a marmot\n[[True, 'a marmot\\n'], [True, 'a marmot\\n']]\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_runs_in_a_cell_of_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    cells = [EXAMPLE, "await __import__('asyncio').sleep(0)", EXAMPLE]
    made: Any = nbformat.v4  # it has no types
    notebook = made.new_notebook(cells=[made.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    assert [[output["text"] for output in cell["outputs"]] for cell in notebook.cells] == [
        ["a marmot\n"],
        [],
        ["a marmot\n"],
    ]
