"""docs/reliability.md: every test that it names is there, and every claim names one."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
_TEST = re.compile(r"`(?:tests/)?(test_\w+\.py)`")


@pytest.mark.parametrize("name", sorted(set(_TEST.findall(PAGE))))
def test_what_it_names_is_there(name: str) -> None:
    assert re.search(r"^def test_", (ROOT / "tests" / name).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("heading", ["| in | refused | found in tests |", "| claim | tests |"])
def test_every_claim_has_tests(heading: str) -> None:
    rows = PAGE.partition(f"\n{heading}\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert len(rows) >= 10
    for row in rows:
        assert _TEST.search(row.rstrip(" |").rpartition(" | ")[2]), row


def test_the_threat_model_comes_first() -> None:
    assert re.findall("^## (.+)", PAGE, re.MULTILINE)[0] == "Threat model"


def test_files_of_the_program_that_it_names_are_there() -> None:
    for name in re.findall(r"`(workflow/converter/[\w/]+(?:\.py|/))`", PAGE):
        assert (ROOT / name).exists(), name
