"""The files for GitHub. No runner was available, so their syntax is all that can be checked here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

GITHUB = Path(__file__).resolve().parent.parent / ".github"
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_the_workflows_pass_actionlint() -> None:
    run = subprocess.run(["actionlint"], cwd=GITHUB.parent, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.parametrize("workflow", sorted((GITHUB / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_says_what_has_run(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert "actionlint" in text.partition("\nname:")[0]
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_a_form_has_what_github_requires(form: Path) -> None:
    fields: dict[str, Any] = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= fields.keys()
    questions = [each for each in fields["body"] if each["type"] != "markdown"]
    assert len({each["id"] for each in questions}) == len(questions) > 0
    assert [each for each in questions if not each["attributes"].get("label")] == []
