"""docs/families.md says of each family and each way to train it what tests/families.py finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from families import FAMILIES, METHODS, cell_of, checkpoint

PAGE = Path(__file__).parents[1] / "docs" / "families.md"

SLICES = [
    (family, method)
    for number, family in enumerate(FAMILIES)
    for method in dict.fromkeys(("LoRA", list(METHODS)[1 + number % (len(METHODS) - 1)]))
]
"""Of each family LoRA and another way, so that every way comes several times."""


def documented() -> dict[tuple[str, str], str]:
    """The cells of the page's table, by family and way, without the numbers of reasons."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    head, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {
        (row[0], method): cell.partition(" (")[0]
        for row in rows
        for method, cell in zip(head[1:], row[1:], strict=True)
    }


def test_the_page_has_every_family_and_every_way_and_no_fault() -> None:
    cells = documented()
    assert set(cells) == {(family, method) for family in FAMILIES for method in METHODS}
    assert {cell.removesuffix(" *") for cell in cells.values()} == {"merged", "yes", "no"}


def test_a_cell_that_a_family_cannot_have_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    cell = cell_of("Mixtral", "DoRA", tmp_path / "cell", checkpoint("Mixtral", tmp_path / "base"))
    assert cell.in_table == documented()["Mixtral", "DoRA"] == "no"
    assert "adapter.targets=attention" in cell.refused
    assert not (tmp_path / "cell" / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("family", "method"), SLICES)
def test_a_family_does_what_the_page_says(family: str, method: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    cell = cell_of(family, method, tmp_path / "cell", checkpoint(family, tmp_path / "base"))
    # Whether flat batches are right is found to rounding, which is another on another machine.
    assert cell.in_table.removesuffix(" *") == documented()[family, method].removesuffix(" *"), cell
