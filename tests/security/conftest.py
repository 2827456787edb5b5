"""What the tests of attacks share."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from gridproxy import Bucket


@pytest.fixture
def bucket(database: AsyncDatabase[dict[str, Any]]) -> Bucket:
    return Bucket(database)
