"""The table of what each adapter does on each operation is what comes out when they are tried."""

from __future__ import annotations

from pathlib import Path

import pytest
from beanie import init_beanie

from gridproxy.testing import FieldHarness

from ..observing import Database
from .operations import BEANIE, DOCUMENT, ODMANTIC, Operation, Probe
from .test_contract_beanie import BeanieHarness, ContractAnimal
from .test_contract_document import DocumentHarness
from .test_contract_odmantic import OdmanticHarness

pytestmark = pytest.mark.usefixtures("connected")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ownership.md"


class StatefulAnimal(ContractAnimal):
    class Settings:
        name = "ContractAnimal"
        use_state_management = True


class StatefulHarness(BeanieHarness):
    document = StatefulAnimal


@pytest.mark.parametrize(
    ("harness", "operations"),
    [(DocumentHarness, DOCUMENT), (StatefulHarness, BEANIE), (OdmanticHarness, ODMANTIC)],
    ids=["document", "beanie", "odmantic"],
)
async def test_the_table_says_what_happens(
    harness: type[DocumentHarness | StatefulHarness | OdmanticHarness], operations: list[Operation], database: Database
) -> None:
    await init_beanie(database, document_models=[ContractAnimal, StatefulAnimal])
    tried: FieldHarness = harness(database)
    tried.collection = database["ContractAnimal"] if harness is StatefulHarness else tried.collection
    shown = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {tried.name} |")]
    assert [await Probe(tried, operation).row() for operation in operations] == shown
