"""Every error is a GridProxyError and what users catch already; the tree in the docstring is the tree."""

from __future__ import annotations

import builtins
import copy
import importlib
import io
import pickle
import re
from collections.abc import Callable

import gridfs.errors
import pymongo.errors
import pytest
from bson import ObjectId

import gridproxy
from gridproxy import errors
from gridproxy.errors import GridProxyError, type_name

ID = ObjectId("5f5e1a2b3c4d5e6f70819203")

# One of each, as the package raises them.
RAISED: list[GridProxyError] = [
    errors.GridProxyError("plain"),
    errors.FileMissing(ID),
    errors.FileMissing(message="no file has the name 'a'"),
    errors.FileVanished(ID),
    errors.FileAlreadyStored(ID),
    errors.FileAlreadyStored({"a": 1}, message="put() on a field that holds a file"),
    errors.CorruptFile(ID, "chunk 1 of 3 is missing"),
    errors.BadSource("int is nothing"),
    errors.BadOption("chunk_size"),
    errors.BadMetadata("a.b"),
    errors.DuplicateKey("owner"),
    errors.UnacknowledgedWriteConcern("w=0"),
    errors.BadId("a pattern"),
    errors.FileRefused("not today", field="photo", limit="weekdays", actual="sunday"),
    errors.TooLarge(5),
    errors.TooLarge(5, field="photo", actual=6),
    errors.ContentTypeRefused("no image", field="photo", limit=("image/*",), actual="text/html"),
    errors.PictureRefused("no picture"),
    errors.BufferFull(10, 5, 12),
    errors.FileClosed("closed"),
    errors.InfoNotLoaded("filename"),
    errors.UploadInProgress("it is being put"),
    errors.OutcomeUnknown(ID),
    errors.CommitUnknown([ID, "mine"]),
    errors.NestedTransaction("one is open"),
    errors.TransactionsUnsupported(),
    errors.NotConnected("no database"),
    errors.ValidationError("genus", "a str is needed"),
    errors.StaleDocument("<Animal>", "photo"),
    errors.DocumentMissing("none"),
    errors.MultipleDocumentsFound("two"),
]


def all_kinds(root: type[GridProxyError] = GridProxyError) -> set[type[GridProxyError]]:
    # An adapter's own kinds stand in its module, and are here only once somebody has imported it.
    kinds = (kind for kind in root.__subclasses__() if kind.__module__ == errors.__name__)
    return {root}.union(*map(all_kinds, kinds))


def resolved(name: str) -> type[BaseException]:
    """`FileMissing`, `ValueError` or `pymongo.errors.PyMongoError`."""
    module, _, attribute = name.rpartition(".")
    home = importlib.import_module(module) if module else errors if hasattr(errors, name) else builtins
    found = getattr(home, attribute)
    assert isinstance(found, type)
    assert issubclass(found, BaseException)
    return found


def drawn_tree() -> dict[str, set[str]]:
    """Each class that the docstring draws, with what it says that it derives from: its parent, and what users catch."""
    assert errors.__doc__ is not None
    drawn: dict[str, set[str]] = {"GridProxyError": set()}
    path = ["GridProxyError"]
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ([│ ]*)[├└]── (\w+) +(\+ )?(\S+) {2,}\S", line)
        if found is None:
            assert "──" not in line, f"not understood: {line}"
            continue
        indent, name, _, caught = found.groups()
        depth = len(indent) // 4 + 1
        path = [*path[:depth], name]
        drawn[name] = {path[depth - 1], caught}
    return drawn


def test_the_tree_in_the_docstring_names_every_error_and_only_those() -> None:
    assert set(drawn_tree()) == {kind.__name__ for kind in all_kinds()} == set(errors.__all__)


@pytest.mark.parametrize(("name", "bases"), [(name, bases) for name, bases in drawn_tree().items() if bases])
def test_an_error_derives_from_what_the_tree_says_and_from_nothing_else(name: str, bases: set[str]) -> None:
    kind = resolved(name)
    said = {resolved(base) for base in bases}
    assert all(issubclass(kind, base) for base in said)
    assert issubclass(kind, GridProxyError)
    unsaid = [base for base in kind.__bases__ if not any(issubclass(each, base) for each in said)]
    assert not unsaid


def test_the_tree_draws_a_class_below_the_one_that_it_derives_from() -> None:
    assert drawn_tree()["DuplicateKey"] == {"BadMetadata", "TypeError"}
    assert drawn_tree()["FileVanished"] == {"FileMissing", "CorruptFile"}
    assert drawn_tree()["BadSource"] == {"GridProxyError", "TypeError"}


def test_all_of_them_are_public() -> None:
    assert set(errors.__all__) <= set(gridproxy.__all__)
    assert all(getattr(gridproxy, name) is getattr(errors, name) for name in errors.__all__)


@pytest.mark.parametrize(
    ("kind", "caught"),
    [
        (errors.FileMissing, gridfs.errors.NoFile),
        (errors.FileVanished, gridfs.errors.NoFile),
        (errors.FileVanished, gridfs.errors.CorruptGridFile),
        (errors.FileAlreadyStored, gridfs.errors.FileExists),
        (errors.CorruptFile, gridfs.errors.CorruptGridFile),
        (errors.OutcomeUnknown, pymongo.errors.PyMongoError),
        (errors.UnacknowledgedWriteConcern, pymongo.errors.ConfigurationError),
        (errors.BadSource, TypeError),
        (errors.BadOption, ValueError),
        (errors.DuplicateKey, TypeError),
        (errors.DuplicateKey, ValueError),
        (errors.BufferFull, BufferError),
    ],
)
def test_who_catches_the_drivers_or_pythons_class_catches_ours(kind: type, caught: type) -> None:
    assert issubclass(kind, caught)


def test_one_of_each_is_tried_here() -> None:
    assert {type(error) for error in RAISED} == all_kinds()


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deep"]
)
def test_an_error_pickles_and_copies_with_its_text_and_its_attributes(
    error: GridProxyError, again: Callable[[GridProxyError], GridProxyError]
) -> None:
    error.add_note("the clean-up failed too")
    twin = again(error)
    assert type(twin) is type(error)
    assert twin is not error
    assert str(twin) == str(error)
    assert twin.args == error.args
    assert vars(twin) == vars(error)
    assert twin.__notes__ == error.__notes__


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_an_error_says_something(error: GridProxyError) -> None:
    assert str(error)
    pymongos = ("_message", "_error_labels", "_OperationFailure__", "__notes__")
    assert all(not name.startswith("_") or name.startswith(pymongos) for name in vars(error))


def test_errors_carry_what_a_handler_needs() -> None:
    assert errors.FileMissing(ID).id == errors.FileVanished(ID).id == errors.OutcomeUnknown(ID).id == ID
    assert errors.FileAlreadyStored(ID).id == ID
    corrupt = errors.CorruptFile(ID, "chunk 1 of 3 is missing")
    assert (corrupt.id, corrupt.reason) == (ID, "chunk 1 of 3 is missing")
    assert "deleted" in errors.FileVanished(ID).reason
    assert errors.TooLarge(5).limit == 5
    full = errors.BufferFull(10, 5, 12)
    assert (full.waiting, full.limit) == (10, 12)
    assert errors.DuplicateKey("owner").key == "owner"
    assert errors.ValidationError("genus", "a str is needed").field == "genus"
    assert errors.StaleDocument("<Animal>", "photo").field == "photo"


def test_a_missing_file_says_that_its_id_came_as_a_str() -> None:
    assert str(errors.FileMissing(str(ID))).endswith(f"a str, and files have an ObjectId unless told otherwise: {ID!r}")
    for id in (ID, "report-2026", None, b"twelve bytes"):
        assert str(errors.FileMissing(id)) == f"no file is stored under the id {id!r}"


def test_info_not_loaded_names_the_field_and_the_call() -> None:
    assert str(errors.InfoNotLoaded("sha256")).startswith("sha256 is not loaded yet: `await file.stat()`")


@pytest.mark.parametrize(
    ("value", "name"), [(5, "int"), (None, "NoneType"), (io.StringIO(), "_io.StringIO"), (ID, "bson.objectid.ObjectId")]
)
def test_a_type_is_shown_with_its_module_unless_it_is_a_builtin(value: object, name: str) -> None:
    assert type_name(value) == name
