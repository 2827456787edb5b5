"""Every error derives from GridProxyError and from a class that users already catch, as the docstring's tree says."""

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

# One of each, built as the package builds it.
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
    errors.BadFilename("a\0b"),
    errors.BadManifest("line 2"),
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
    errors.UniqueIndexViolation("filename_1", {"filename": "a"}, bucket="the bucket 'fs'", details={"code": 11000}),
    errors.IndexesNotAllowed("the bucket 'fs'", pymongo.errors.OperationFailure("not authorized", 13)),
    errors.AsyncioRequired(),
    errors.NestedTransaction("one is open"),
    errors.TransactionsUnsupported(),
    errors.NotConnected("no database"),
    errors.ValidationError("genus", "a str is needed"),
    errors.StaleDocument("<Animal>", "photo"),
    errors.DocumentMissing("none"),
    errors.MultipleDocumentsFound("two"),
    errors.EventLoopRunning("Bucket.read"),
]


def all_kinds(root: type[GridProxyError] = GridProxyError) -> set[type[GridProxyError]]:
    # An adapter's own errors are defined in its module, which may not be imported here.
    kinds = (kind for kind in root.__subclasses__() if kind.__module__ == errors.__name__)
    return {root}.union(*map(all_kinds, kinds))


def resolved(name: str) -> type[BaseException]:
    """Return the class of a name such as `FileMissing`, `ValueError` or `pymongo.errors.PyMongoError`."""
    module, _, attribute = name.rpartition(".")
    owner = importlib.import_module(module) if module else errors if hasattr(errors, name) else builtins
    found = getattr(owner, attribute)
    assert isinstance(found, type)
    assert issubclass(found, BaseException)
    return found


def drawn_tree() -> dict[str, set[str]]:
    """Return each class in the docstring's tree with the bases that the tree gives it."""
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
def test_an_error_has_exactly_the_bases_that_the_tree_draws(name: str, bases: set[str]) -> None:
    kind = resolved(name)
    drawn = {resolved(base) for base in bases}
    assert all(issubclass(kind, base) for base in drawn)
    assert issubclass(kind, GridProxyError)
    missing = [base for base in kind.__bases__ if not any(issubclass(each, base) for each in drawn)]
    assert not missing


def test_the_tree_draws_a_class_below_its_base() -> None:
    assert drawn_tree()["DuplicateKey"] == {"BadMetadata", "TypeError"}
    assert drawn_tree()["FileVanished"] == {"FileMissing", "CorruptFile"}
    assert drawn_tree()["BadSource"] == {"GridProxyError", "TypeError"}


def test_all_errors_are_public() -> None:
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
        (errors.UniqueIndexViolation, pymongo.errors.DuplicateKeyError),
        (errors.IndexesNotAllowed, pymongo.errors.OperationFailure),
        (errors.UnacknowledgedWriteConcern, pymongo.errors.ConfigurationError),
        (errors.BadSource, TypeError),
        (errors.BadOption, ValueError),
        (errors.DuplicateKey, TypeError),
        (errors.DuplicateKey, ValueError),
        (errors.BufferFull, BufferError),
    ],
)
def test_an_error_is_caught_by_the_class_of_the_driver_or_of_python(kind: type, caught: type) -> None:
    assert issubclass(kind, caught)


def test_the_list_above_has_every_error() -> None:
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
def test_an_error_has_a_message_and_no_private_attributes(error: GridProxyError) -> None:
    assert str(error)
    of_pymongo = ("_message", "_error_labels", "_OperationFailure__", "__notes__")
    assert all(not name.startswith("_") or name.startswith(of_pymongo) for name in vars(error))


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


def test_a_missing_file_names_its_bucket_and_suggests_an_object_id_for_a_str() -> None:
    assert str(errors.FileMissing(str(ID))).endswith(f"is a str, and ids are ObjectIds by default: try {ID!r}")
    in_fs = errors.FileMissing(ID, bucket="the bucket 'fs' of the database 'zoo'")
    assert str(in_fs) == f"no file is stored under the id {ID!r} in the bucket 'fs' of the database 'zoo'"
    for id in (ID, "report-2026", None, b"twelve bytes"):
        assert str(errors.FileMissing(id)) == f"no file is stored under the id {id!r}"


def test_info_not_loaded_names_the_field_and_the_call() -> None:
    assert str(errors.InfoNotLoaded("sha256")).startswith("sha256 is not loaded yet: `await file.stat()`")


@pytest.mark.parametrize(
    ("value", "name"), [(5, "int"), (None, "NoneType"), (io.StringIO(), "_io.StringIO"), (ID, "bson.objectid.ObjectId")]
)
def test_a_type_is_shown_with_its_module_unless_it_is_a_builtin(value: object, name: str) -> None:
    assert type_name(value) == name
