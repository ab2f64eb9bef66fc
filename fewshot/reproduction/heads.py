"""Fills in the expected accuracy in the comment at the head of each recipe, from stored results."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot.config.recipes import read_recipe
from fewshot.evaluation.report import format_percent
from fewshot.reproduction.recipes import find_runs, select_own
from fewshot.reproduction.results import Result
from fewshot.reproduction.runner import load_stored, plan_rows
from fewshot.reproduction.tables.accuracies import FLOOR_ROWS, Plan, Row, make_rows, shorten
from fewshot.runtime.files import write_whole

EXPECTED, INDENT, WIDTH = "# Expected: ", "#           ", 120
FACT = re.compile(rf"^{EXPECTED}.*\n(?:{INDENT}.*\n)*", re.MULTILINE)  # the line and its continuation lines
NOT_MEASURED = "not measured yet"


def fill_expected(recipes: Path, results: Path) -> list[Path]:
    """Write the accuracies of the results into the head of each recipe that has a line `# Expected:`.

    Args:
        recipes: the folder of a data set's recipes.
        results: the folder of its results; those of another version of a recipe are ignored.

    Returns:
        The files that were changed.
    """
    if not any(results.glob("*.json")):
        return []  # without results here, the numbers in the heads come from elsewhere and stay
    runs = select_own(find_runs(recipes, Path("unused")), recipes)
    stored, planned = load_stored(results, runs, quiet=True), plan_rows(runs)
    changed = []
    for path in sorted(recipes.glob("*.yaml")):
        own = {entry.name: planned[entry.name] for entry in read_recipe(path).entries}
        text = path.read_text(encoding="utf-8")
        held = FACT.search(text)
        filled = text.replace(held[0], _format_fact(write_expected(stored, own)), 1) if held else text
        if filled != text:
            write_whole(path, filled)
            changed.append(path)
    return changed


def write_expected(results: Sequence[Result], planned: Mapping[str, Plan]) -> list[str]:
    """Write a text for each row of the tables that the runs `planned` make, in the order of the recipe."""
    own = {name: Plan(plan.row, _drop_floor(plan)) for name, plan in planned.items()}
    seeds: dict[str, set[int]] = {}
    for result in results:
        if result.recipe in own:
            seeds.setdefault(own[result.recipe].row, set()).add(result.seed)
    rows = make_rows(results, own)
    texts = [(row.name, *_format_numbers(row, seeds)) for row in rows]
    shared = {of for *_, of in texts if of}
    if len(rows) == 1 or not shared:
        (_, numbers, of), *_ = texts
        return [f"{numbers} ({of})" if of else numbers]
    if len(shared) == 1:
        return [*shared, *(f"{name}: {numbers}" for name, numbers, _ in texts)]
    return [f"{name}: {numbers} ({of})" if of else f"{name}: {numbers}" for name, numbers, of in texts]


def _drop_floor(plan: Plan) -> dict[str, Sequence[str]]:
    return {kind: cells for kind, cells in plan.cells.items() if kind not in FLOOR_ROWS}


def _format_numbers(row: Row, seeds: Mapping[str, set[int]]) -> tuple[str, str]:
    """Format the accuracies, `56.49 ± 0.67 / 71.42 ± 0.57`, and cells and seeds, `5w1s, 5w5s; seeds 0, 1, 2`."""
    cells = [cell for cell, records in row.cells.items() if records]
    if not cells:
        return NOT_MEASURED, ""
    numbers = sorted(next(own for name, own in seeds.items() if row.name == name or row.name.startswith(f"{name}, ")))
    said = f"seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
    return " / ".join(format_percent(row.estimate(cell)) for cell in cells), f"{', '.join(map(shorten, cells))}; {said}"


def _format_fact(texts: Sequence[str]) -> str:
    width = WIDTH - len(INDENT)
    lines = [line for text in texts for line in textwrap.wrap(text, width, subsequent_indent="  ")]
    return "\n".join([f"{EXPECTED}{lines[0]}", *(f"{INDENT}{line}" for line in lines[1:])]) + "\n"
