"""What users may rely on, and the shape of the house: names, signatures, layers, sizes."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gridproxy
from gridproxy import AsyncGridFile, Bucket, ResumableUpload, sync
from gridproxy.adapters.django import GridFSStorage
from gridproxy.adapters.starlette import FilesApp, SignedLinks
from gridproxy.adapters.tus import TusApp

PACKAGE = Path(gridproxy.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
# What the extras bring; the core needs pymongo and anyio alone.
EXTRAS = [
    "PIL",
    "aiofiles",
    "aiohttp",
    "attrs",
    "beanie",
    "celery",
    "click",
    "django",
    "fsspec",
    "httpx",
    "numpy",
    "odmantic",
    "opentelemetry",
    "puremagic",
    "pydantic",
    "rich",
    "secantus",
    "starlette",
]

NAMES = """
AssignableFile
AsyncGridFile AsyncioRequired BadFilename BadId BadManifest BadMetadata BadOption BadSource Bucket BufferFull
CommitUnknown ContentTypeRefused CorruptFile DocumentMissing DownloadStream DuplicateKey EventLoopRunning
FileAlreadyStored FileClosed FileInfo FileMissing FileOptions FileRefused FileVanished Finding GarbageReport
GridProxyError ImageOptions IndexesNotAllowed InfoNotLoaded MultipleDocumentsFound NestedTransaction NotConnected
OutcomeUnknown PictureRefused Reader ResumableUpload Staged StaleDocument Tally TooLarge Transaction
TransactionsUnsupported TransferReport UnacknowledgedWriteConcern UniqueIndexViolation UnmovedFile UploadInProgress
UploadMissing ValidationError Writer WrongLength WrongOffset connect disconnect export_files import_files prefetch
rewrite_references transaction transfer using with_transaction wrap_field
"""

# Each public member with its parameters, `=` where one has a default, `*` before those that go by keyword only.
FILE = """
__init__ (id=, *, bucket=, alias=, options=, info=)
abort await ()
as_source (session=)
chunk_size property
close await ()
closed property
content_type property
copy await (*, session=, **options)
delete await (*, session=)
etag property
exists await (*, session=)
filename property
finalize await (*, session=)
format property
get await (*, session=)
grid_id property
height property
id property
info property
length property
lines (encoding=, errors=, *, session=)
metadata property
new_file (*, replace=, session=, progress=, **options)
open (*, session=)
options property
put await (source, *, session=, progress=, **options)
read await (size=, *, session=)
read_range await (start, stop, *, session=)
read_ranges await (ranges, *, session=)
read_text await (encoding=, errors=, *, session=)
readinto await (buffer, *, session=)
readline await (size=, *, session=)
readlines await (hint=, *, session=)
rename await (filename, *, session=)
replace await (source, *, session=, progress=, **options)
revert await (*, session=)
save_to await (sink, progress=, *, session=)
seek await (offset, whence=, *, session=)
sha256 property
size property
stat await (*, session=)
stream (start=, stop=, *, session=)
tell ()
thumbnail property
update_metadata await (changes=, *, unset=, session=, **more)
upload_date property
variants property
verify await (*, session=)
width property
write (data)
writelines (lines)
"""

BUCKET = """
__init__ (database, name=, *, chunk_size=, checksum=, write_concern=, read_concern=, read_preference=, indexes=)
by_name await (filename, revision=, *, session=)
capabilities property
check (*, references=, older_than=, progress=)
collect_garbage await (older_than=, dry_run=, *, unreferenced=, references=, progress=)
copy await (id, *, filename=, content_type=, metadata=, new_id=, expires_at=, expires_after=, session=)
database property
delete await (id, *, session=)
delete_by_name await (filename, *, session=)
delete_many await (ids, *, session=)
discard await (staged)
drop await ()
ensure_indexes await (*, force=)
exists await (filter, *, session=)
file (id)
find (filter=, *, sort=, skip=, limit=, batch_size=, session=)
find_one await (filter=, *, sort=, session=)
name property
open_upload (*, session=, progress=, **options)
prune await (filename, *, keep, session=)
publish await (staged, *, session=)
read await (id, start=, stop=, *, session=)
read_many await (ids, *, session=)
read_ranges await (id, ranges, *, session=)
rename await (id, filename, *, session=)
rename_by_name await (filename, new, *, session=)
resumable await (*, length=, lifetime=, options=, annotations=, **upload_options)
resume await (id, *, options=)
revisions (filename, *, session=)
set_expiry await (id, at, *, session=)
stage await (source, *, progress=, **options)
stat await (id, *, session=)
stat_many await (ids, *, session=)
stream (id, start=, stop=, *, session=)
update_metadata await (id, changes=, *, unset=, session=, **more)
upload await (source, *, session=, progress=, **options)
upload_many await (sources, *, session=, progress=, **options)
verify await (id, *, session=, progress=)
"""

RESUMABLE_UPLOAD = """
__init__ (store, upload, limits)
abort await ()
annotations property
announce await (length)
append await (source, *, at=, whole=)
expires_at property
finish await ()
id property
info property
is_busy property
is_finished property
length property
offset property
"""

TUS_APP = """
__init__ (bucket, *, authorize=, on_stored=, options=, lifetime=, max_uploads=, stall_timeout=)
aclose await ()
"""

FUNCTIONS = """
export_files await (bucket, target, filter=, *, storage_options=, progress=)
import_files await (source, bucket, *, storage_options=, progress=)
transfer await (source, target, filter=, *, keep=, delete=, progress=)
"""

FILES_APP = """
__init__ (bucket, *, authorize=, options=, by=, listing=, **more)
for_field (model, field, *, authorize=, engine=, **more)
"""

SIGNED_LINKS = """
__init__ (keys)
add_application (served)
url (prefix, file=, *, expires_in, method=, filename=, disposition=, max_size=, content_types=, app=)
"""


# The other names of gridproxy.sync. Its Bucket and GridFile are compared with those above in tests/sync.
CLIENT = """
__init__ (uri, **driver_options)
asynchronous ()
bucket (database, name=, *, chunk_size=, checksum=, write_concern=, read_concern=, read_preference=, indexes=)
close ()
transaction ()
"""

STORAGE = """
__init__ (*, uri, database, bucket=, base_url=, links=, expires_in=, allow_overwrite=, client_options=, bucket_options=)
"""


def parameters(function: Callable[..., object]) -> str:
    """Enough to see that a call which worked yesterday works today."""
    shown = []
    for each in inspect.signature(function).parameters.values():
        if each.kind is each.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        if each.name != "self":
            stars = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
            default = "" if each.default is each.empty else "="
            shown.append(f"{stars}{each.name}{default}")
    return f"({', '.join(shown)})"


def public_members(kind: type) -> Iterator[str]:
    """Yield properties, coroutine functions (`await`) and plain functions in the order of their names."""
    for name, member in inspect.getmembers(kind):
        if isinstance(member, property):
            yield f"{name} property"
        elif inspect.isfunction(member) and (name == "__init__" or not name.startswith("_")):
            awaited = "await " if inspect.iscoroutinefunction(member) else ""
            yield f"{name} {awaited}{parameters(member)}"


def test_all_names_what_is_public_and_nothing_else() -> None:
    assert gridproxy.__all__ == NAMES.split()
    assert all(hasattr(gridproxy, name) for name in gridproxy.__all__)


@pytest.mark.parametrize(
    ("kind", "frozen"),
    [
        (AsyncGridFile, FILE),
        (Bucket, BUCKET),
        (ResumableUpload, RESUMABLE_UPLOAD),
        (FilesApp, FILES_APP),
        (SignedLinks, SIGNED_LINKS),
        (TusApp, TUS_APP),
        (sync.Client, CLIENT),
    ],
)
def test_the_signatures_are_what_they_were(kind: type, frozen: str) -> None:
    assert list(public_members(kind)) == frozen.strip().splitlines()


def test_the_options_of_the_storage_for_django_are_what_they_were() -> None:
    assert next(iter(public_members(GridFSStorage))) == STORAGE.strip()


def test_the_signatures_of_the_functions_that_move_files_are_what_they_were() -> None:
    functions = [getattr(gridproxy, line.partition(" ")[0]) for line in FUNCTIONS.strip().splitlines()]
    assert [f"{each.__name__} await {parameters(each)}" for each in functions] == FUNCTIONS.strip().splitlines()
    assert all(map(inspect.iscoroutinefunction, functions))


@pytest.mark.parametrize("name", gridproxy.__all__)
def test_everything_public_says_what_it_is(name: str) -> None:
    thing = getattr(gridproxy, name)
    assert inspect.getdoc(thing), name
    if inspect.isclass(thing):
        undocumented = [
            member_name
            for member_name, member in inspect.getmembers(thing)
            if not member_name.startswith("_")
            and (inspect.isfunction(member) or isinstance(member, property))
            and not inspect.getdoc(member)
        ]
        assert not undocumented


def test_the_facade_has_no_logic() -> None:
    for module in MODULES:
        if module.name == "__init__.py":
            body = ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body
            kinds = {type(node) for node in body}
            # The package itself imports some names at their first use.
            own = {ast.If, ast.FunctionDef} if module == Path("__init__.py") else set()
            assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign, *own}, module


def test_importing_the_package_imports_no_extra_and_no_server() -> None:
    code = "import gridproxy.sync, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pymongo" in loaded
    assert not loaded & set(EXTRAS)
    code = "import gridproxy, sys; print(*sorted(name for name in sys.modules if name.startswith('gridproxy.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name for name in done.stdout.split() if name.startswith(("gridproxy.adapters", "gridproxy.embedded"))}
