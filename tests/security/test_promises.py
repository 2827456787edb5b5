"""SECURITY.md: each test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_every_test_that_the_threat_model_names_exists() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    guarded = page[page.index("### What the package guards") : page.index("### What is left")]
    rows = [line for line in guarded.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    assert [row for row in rows if not NAMED.search(row)] == []
    for path, name in NAMED.findall(page):
        text = (ROOT / path).read_text()
        assert not name or re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), (path, name)
    for path in re.findall(r"\]\(([\w/.]+)\)", page):
        assert (ROOT / path).exists()
