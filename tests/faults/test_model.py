"""Some hundred steps against the model; for hours: `GRIDPROXY_MODEL_SECONDS=7200 pytest tests/faults/test_model.py`.

The long run takes other steps each time, and prints how to have those again that failed.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo import MongoClient, common

from gridproxy.gridfs.upload import commit

from .model import FilesAndDocuments
from .model_of_ids import FixedIds

SECONDS = float(os.environ.get("GRIDPROXY_MODEL_SECONDS", "0"))

QUICK = settings(
    max_examples=8,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def database_name(mongodb_uri: str) -> Iterator[str]:
    name = f"gridproxy_test_{uuid.uuid4().hex}"
    yield name
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        client.drop_database(name)


@pytest.mark.parametrize("model", [FilesAndDocuments, FixedIds])
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_files_and_documents_are_what_the_model_says(
    model: type[FilesAndDocuments | FixedIds],
    mongodb_uri: str,
    database_name: str,
    small_batches: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.01)
    monkeypatch.setattr(commit, "_PAUSE", 0)

    class Machine(model):  # type: ignore[misc, valid-type]  # its classes are those of the parameters
        def __init__(self) -> None:
            super().__init__(mongodb_uri, database_name)

    run_state_machine_as_test(Machine, settings=QUICK)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        run_state_machine_as_test(Machine, settings=settings(QUICK, derandomize=False, max_examples=50))
