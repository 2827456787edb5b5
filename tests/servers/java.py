"""mongo-java-server 1.47, which keeps everything in memory. It has no `hello`, no sessions and no transactions."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .lane import Lane, cache, find_in_cache, replace_folder, running

_NAME = "mongo-java-server-1.47.0"
_SOURCE = Path(__file__).parent / "mongo_java_server"


def _build() -> Path:
    with tempfile.TemporaryDirectory(prefix="gridproxy-java-") as folder:
        built = Path(folder) / "built"
        maven = ["mvn", "--quiet", "--batch-mode", "--file", str(_SOURCE / "pom.xml"), "dependency:copy-dependencies"]
        subprocess.run([*maven, "-DincludeScope=runtime", f"-DoutputDirectory={built}"], check=True)
        compiler = ["javac", "-classpath", str(built / "*"), "-d", str(built), str(_SOURCE / "Server.java")]
        subprocess.run(compiler, check=True)
        replace_folder(built, cache(_NAME))
    return cache(_NAME) / "Server.class"


@contextmanager
def _start(program: Path) -> Iterator[str]:
    classes = os.pathsep.join([str(program.parent), str(program.parent / "*")])
    with running(["java", "-classpath", classes, "Server"], r"listening on port (\d+)") as port:
        yield f"mongodb://127.0.0.1:{port}/?heartbeatFrequencyMS=500"


_SESSIONS = "it has no sessions, and so no transactions"
_BINARY = "it closes the connection for old subtypes of binary values"
_MESSAGE = "pymongo cannot read a batch of more than its message size, which it does not keep"
_PIPELINES = "it has no updates by pipelines, with which the test prepares its data"
_DROP_INDEX = "it cannot drop an index that was made on a collection that was read before"
_BINARY_SIZE = "it has no $binarySize, so the content has to be read"
_LOOKUP = "it does not have all of $lookup, so the first read of a file is two commands"
_CREATES = "it creates a collection that is read, so that a mistyped name seems right"

MONGO_JAVA_SERVER = Lane(
    name="java",
    what="mongo-java-server 1.47.0",
    tools=["mvn", "javac", "java"],
    minutes=1,
    find=lambda: find_in_cache(_NAME, "Server.class"),
    build=_build,
    start=_start,
    left_out={
        "test_hostile_ids.py::test_an_id_of_any_bson_type_is_the_id_of_one_file[Binary(b'bytes', 5)": _BINARY,
        "test_interop.py::test_the_old_binary_subtype_is_read_as_bytes": _BINARY,
        "test_check.py::test_files_of_pymongo_and_legacy_records_have_no_findings": _BINARY,
        "test_interop.py::test_pymongo_reads_sixty_megabytes_that_are_written_here": _MESSAGE,
        "test_interop.py::test_metadata_with_keys_that_are_refused_here_are_read_and_copied": _PIPELINES,
        "test_check.py::test_a_chunk_that_is_there_twice": _DROP_INDEX,
        "test_check.py::test_check_transfers_no_content": _BINARY_SIZE,
        "test_stream.py::test_a_range_fetches_only_its_chunks": _LOOKUP,
        "test_copy.py::test_a_copy_moves_no_byte_through_the_client": _BINARY_SIZE,
        "test_copy.py::test_a_picture_is_copied_to_another_bucket_with_its_variants": _BINARY_SIZE,
        "test_collect_garbage.py::test_a_reference_that_looks_mistyped_removes_nothing": _CREATES,
        "test_cli.py::test_unreferenced_files_need_references": _CREATES,
        "test_handle.py::test_every_method_takes_a_session": _SESSIONS,
        "test_handle.py::test_only_the_record_is_written_in_the_session": _SESSIONS,
        "test_handle.py::test_a_record_put_in_a_transaction_is_seen_after_the_commit_only": _SESSIONS,
        "test_handle.py::test_a_file_put_in_a_transaction_can_be_the_source_of_another_in_it": _SESSIONS,
        "test_read.py::test_a_new_session_keeps_the_position": _SESSIONS,
        "test_check.py::test_it_takes_no_part_in_a_bound_transaction": _SESSIONS,
        "test_collect_garbage.py::test_it_takes_no_part_in_a_bound_transaction": _SESSIONS,
        "test_collect_garbage.py::test_a_transaction_that_was_aborted_leaves": _SESSIONS,
        "test_sharding.py::test_the_page_shows": _SESSIONS,
        "test_codec_options.py::test_a_transaction_works_with_decoders": _SESSIONS,
        "test_unique_indexes.py::test_so_it_is_in_a_transaction": _SESSIONS,
    },
)
