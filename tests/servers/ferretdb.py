"""FerretDB 1.24 with its SQLite backend. It is a Go module."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .lane import Lane, cache, find_in_cache, replace_folder, running

_MODULE, _VERSION = "github.com/FerretDB/FerretDB", "v1.24.0"
_NAME = f"ferretdb-{_VERSION}"
_LISTENING = r"Listening on TCP 127\.0\.0\.1:(\d+)"


def _build() -> Path:
    with tempfile.TemporaryDirectory(prefix="gridproxy-ferretdb-") as folder:
        download = ["go", "mod", "download", "-json", f"{_MODULE}@{_VERSION}"]
        answer = subprocess.run(download, cwd=folder, check=True, capture_output=True, text=True).stdout
        source = Path(folder) / "source"
        shutil.copytree(json.loads(answer)["Dir"], source)
        for path in [source, *source.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)  # Go's cache is read-only
        # The module's archive lacks this file, and the program refuses to start without it.
        (source / "build" / "version" / "version.txt").write_text(_VERSION)
        built = Path(folder) / "built"
        build = ["go", "build", "-o", str(built / "ferretdb"), "./cmd/ferretdb"]
        subprocess.run(build, cwd=source, check=True, env={**os.environ, "CGO_ENABLED": "0"})
        replace_folder(built, cache(_NAME))
    return cache(_NAME) / "ferretdb"


@contextmanager
def _start(program: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="gridproxy-ferretdb-") as folder:
        options = ["--listen-addr=127.0.0.1:0", "--handler=sqlite", f"--sqlite-url=file:{folder}/"]
        options += ["--telemetry=disable", "--debug-addr=-", "--state-dir=-"]
        with running([program, *options], _LISTENING) as port:
            yield f"mongodb://127.0.0.1:{port}/?heartbeatFrequencyMS=500"


_TRANSACTIONS = "it has no transactions"
_KEYS = "it stores no keys with a dot or with a dollar sign at the start"
_TYPES = "it closes the connection for a Decimal128, a MinKey or another type that it does not know"
_BINARY_SIZE = "it has no $binarySize, so the content has to be read"
_MERGE = "it has no $merge, so a copy goes through the client"
_LOOKUP = "it has no $lookup, so the first read of a file is two commands"
_NAMELESS = "its refusals do not name the unique index, and those of updates are not even duplicate keys"
_INFINITE = "it stores no infinite numbers"

FERRETDB = Lane(
    name="ferretdb",
    what=f"FerretDB {_VERSION} with SQLite",
    tools=["go"],
    minutes=3,
    find=lambda: find_in_cache(_NAME, "ferretdb"),
    build=_build,
    start=_start,
    left_out={
        "test_sources.py::test_a_file_of_another_driver_brings_keys_that_could_not_be_given": _KEYS,
        "test_record.py::test_update_metadata_stores_expressions_as_values": _KEYS,
        "test_hostile_ids.py::test_an_id_of_any_bson_type_is_the_id_of_one_file[Decimal128": _TYPES,
        "test_hostile_ids.py::test_an_id_of_any_bson_type_is_the_id_of_one_file[MinKey": _TYPES,
        "test_codec_options.py::test_the_types_of_the_application_are_encoded": _TYPES,
        "test_sharding.py::test_the_page_shows": _TRANSACTIONS,
        "test_codec_options.py::test_a_transaction_works_with_decoders": _TRANSACTIONS,
        "test_unique_indexes.py::test_a_taken_name": _NAMELESS,
        "test_unique_indexes.py::test_so_it_is_in_a_transaction": _TRANSACTIONS,
        "test_unique_indexes.py::test_the_same_content_twice": _NAMELESS,
        "test_unique_indexes.py::test_an_edit_to_a_taken_value": _NAMELESS,
        "test_unique_indexes.py::test_new_metadata_with_a_taken_value": _NAMELESS,
        "test_unique_indexes.py::test_a_unique_index_on_chunks": _NAMELESS,
        "test_interop.py::test_metadata_with_keys_that_are_refused_here_are_read_and_copied": _KEYS,
        "test_update.py::test_a_value_that_looks_like_an_expression_is_a_value": _KEYS,
        "test_stream.py::test_a_range_fetches_only_its_chunks": _LOOKUP,
        "test_copy.py::test_a_copy_moves_no_byte_through_the_client": _MERGE,
        "test_copy.py::test_a_picture_is_copied_to_another_bucket_with_its_variants": _MERGE,
        "test_cli.py::test_a_record_is_shown": _INFINITE,
        "test_check.py::test_whole_files_of_every_length_and_every_kind_of_id_have_no_findings": _TYPES,
        "test_check.py::test_ids_that_are_equal_in_python_are_distinguished": _TYPES,
        "test_check.py::test_check_transfers_no_content": _BINARY_SIZE,
        "test_collect_garbage.py::test_a_transaction_that_was_aborted_leaves": _TRANSACTIONS,
        "test_collect_garbage.py::test_it_takes_no_part_in_a_bound_transaction": _TRANSACTIONS,
        "test_check.py::test_it_takes_no_part_in_a_bound_transaction": _TRANSACTIONS,
        "test_handle.py::test_a_record_put_in_a_transaction_is_seen_after_the_commit_only": _TRANSACTIONS,
        "test_handle.py::test_a_file_put_in_a_transaction_can_be_the_source_of_another_in_it": _TRANSACTIONS,
    },
)
