"""Makes the figures of a data set from stored results and curves."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fewshot.config import PRETRAIN, find_kind
from fewshot.evaluation.record_header import RecordHeader
from fewshot.evaluation.rows import RowKind
from fewshot.methods import find_method
from fewshot.methods.base_classifier import Classifier
from fewshot.registry import unknown_name
from fewshot.reproduction.figures.curves import N_QUERY, SHOTS, SHOTS_N_WAY, WAYS, WAYS_N_SHOT, Curves, read_curves
from fewshot.reproduction.figures.drawing import Line, Panel, draw
from fewshot.reproduction.figures.leak import draw_leak
from fewshot.reproduction.results import Result
from fewshot.reproduction.runner import load_stored, plan_rows
from fewshot.reproduction.runs import Run
from fewshot.reproduction.tables.accuracies import OWN_ROWS, join_distinct, make_rows

MINUTES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def choose_runs(runs: Sequence[Run], names: Sequence[str] = ()) -> list[Run]:
    """Choose the runs that figures show: recipes or rows in `names`; by default, rows with the name of their method."""
    known = {name for run in runs for name in (run.name, run.row)}
    for name in names:
        if name not in known:
            raise unknown_name("recipe", name, known)
    return [
        run
        for run in runs
        if not run.is_pretrain
        and find_method(run.config.method).published
        and ({run.name, run.row} & set(names) if names else run.row == run.config.method)
    ]


def make_figures(results: Path, runs: Sequence[Run], shown: Sequence[Run]) -> list[Path]:
    """Draw shots, ways and minutes, as SVG and PNG, from the folder `results`; returns the files that were drawn.

    `runs`: of all recipes; `shown`: those whose lines are drawn.
    """
    stored = load_stored(results, list({run.name: run for run in runs}.values()))
    first = {result.recipe: result for result in reversed(stored)}  # for each recipe, the result of the lowest seed
    names = [name for name in dict.fromkeys(run.name for run in shown) if name in first]
    curves = _keep_current([c for c in read_curves(results) if c.recipe in names], stored)
    paths, rows = [], {run.name: run.row for run in runs}
    for what, label in (("shots", "support images of each class"), ("ways", "classes of an episode")):
        lines, ticks = make_curve_lines(curves, first, rows, what), SHOTS if what == "shots" else WAYS
        if lines:
            path = results / f"{what}.svg"
            kind = f"{SHOTS_N_WAY}-way" if what == "shots" else f"{WAYS_N_SHOT}-shot"
            title = f"{results.name}, {kind}: accuracy against {what}"
            paths += draw([Panel("", lines)], label, ticks, title, _describe_facts(list(curves.values())), path)
    told = keep_with_history(stored)
    trained = [told[name] for name in names if any(what for what, _ in told[name].facts["stages"])]
    panels = make_minute_panels(trained, told, rows)
    if panels:
        path, title = results / "minutes.svg", f"{results.name}: validation accuracy against minutes of training"
        paths += draw(
            panels, "minutes, stage 1 and validation included", MINUTES, title, _describe_hardware(told, names), path
        )
    of_one_set = [run for run in runs if not run.test_set]
    cells = list(dict.fromkeys(cell for run in of_one_set for cell in run.cells))
    rows_of_tables = make_rows(stored, plan_rows(of_one_set))
    return paths + draw_leak(rows_of_tables, cells, _describe_episodes_of(stored), results / "leak.svg")


def _describe_episodes_of(stored: Sequence[Result]) -> str:
    """The data set and episodes of all records."""
    headers = [measured.header for result in stored for cells in result.records.values() for measured in cells]
    n_episodes = join_distinct(f"{header.n_episodes:,}" for header in headers)
    sets = join_distinct(f"{header.dataset}/{header.split}" for header in headers)
    return (
        f"{sets}, {n_episodes} episodes of seed {join_distinct(h.seed for h in headers)}; 95% intervals over episodes"
    )


def _keep_current(curves: Sequence[Curves], stored: Sequence[Result]) -> dict[str, Curves]:
    """Keep, for each recipe, the curves of the lowest seed with the weights of its result; prints the others."""
    weights = {(r.recipe, r.seed): _find_header(r).weights for r in stored}
    current: dict[str, Curves] = {}
    for c in curves:
        if c.header.get("weights") != weights.get((c.recipe, c.seed)):
            print(f"{c.title}: its curves are left out: they are not of the weights of its result", flush=True)
        else:
            current.setdefault(c.recipe, c)
    return current


def _find_header(result: Result) -> RecordHeader:
    """Find the header of a record of the trained weights."""
    row = next(row for row in (RowKind.TRAINED, RowKind.CLASSIFIER, *result.records) if row in result.records)
    return result.records[row][0].header


def _mark(result: Result) -> str:
    """The mark of results whose weights were trained on test classes; else empty."""
    return next((records[0].mark for row, records in result.records.items() if row in OWN_ROWS), "")


def make_curve_lines(
    curves: dict[str, Curves], results: dict[str, Result], rows: Mapping[str, str], what: str
) -> list[Line]:
    """Make the lines of a figure against "shots" or "ways"; recipes of one row of the tables share a line.

    `rows`: the row of each recipe.
    """
    lines: dict[str, list[tuple]] = {}
    for name, c in curves.items():
        for point in c.points:
            x, other = (point.n_shot, point.n_way) if what == "shots" else (point.n_way, point.n_shot)
            if other == (SHOTS_N_WAY if what == "shots" else WAYS_N_SHOT):
                n_answers = c.header["n_episodes"] * point.n_way * N_QUERY
                row = (x, point.mean, point.half_width_95, 0.5 / n_answers)
                lines.setdefault(rows[name], []).append((name, *row))
    last = max((x for rows in lines.values() for _, x, *_ in rows), default=0)
    return [_make_curve_line(name, results, rows, last) for name, rows in lines.items()]


def _make_curve_line(row: str, results: dict[str, Result], points: list[tuple], last: int) -> Line:
    names, *columns = zip(*sorted(points, key=lambda point: point[1]), strict=True)
    method = results[names[0]].facts["config"]["method"]
    kind = find_method(method)
    label = (kind.label if row == method else row) + _mark(results[names[0]])
    return Line(label, kind, *columns, dashed=row != method, joined=len(set(names)) == 1, beside=columns[0][-1] < last)


def keep_with_history(stored: Sequence[Result]) -> dict[str, Result]:
    """Keep, for each recipe, the lowest seed with a validation history, or else the lowest seed."""
    best_last = sorted(stored, key=lambda result: (bool(result.facts["history"]), -result.seed))
    return {result.recipe: result for result in best_last}


def make_minute_panels(shown: Sequence[Result], results: dict[str, Result], rows: Mapping[str, str]) -> list[Panel]:
    """Make a panel for each kind of validation episode, with the lines of methods and of their first stages."""
    stages = {Path(r.facts["config"].get("pretrained_run") or "").name.rpartition("-seed")[0] for r in shown}
    panels: dict[str, list[Result]] = {}
    untold = []
    for result in [*(results[name] for name in sorted(stages) if name in results), *shown]:
        if not result.facts["history"]:
            untold.append(f"{result.recipe}, seed {result.seed}")
            continue
        config = result.facts["config"]
        panels.setdefault(f"{config['val_n_way']}-way {config['val_n_shot']}-shot validation", []).append(result)
    if untold:
        print(f"not in minutes.svg, since no validation is stored: {'; '.join(untold)}", flush=True)
    largest_first = sorted(panels.items(), key=lambda item: -len(item[1]))
    return [
        Panel(
            f"{cell}, {_describe_episodes(told)} episodes",
            [_make_minute_line(result, rows[result.recipe]) for result in told],
        )
        for cell, told in largest_first
    ]


def _describe_episodes(told: Sequence[Result]) -> str:
    """Describe how many episodes the validations of these results had, such as "200 to 400"."""
    numbers = [result.facts["config"]["val_episodes"] for result in told]
    return " to ".join(dict.fromkeys(map(str, (min(numbers), max(numbers)))))


def _make_minute_line(result: Result, row: str) -> Line:
    config, before = result.facts["config"], sum(minutes for _, minutes in result.facts["stages"][:-1])
    _, seconds, mean, half = zip(*result.facts["history"], strict=True)
    stage_one = find_kind(config) == PRETRAIN
    kind = Classifier if stage_one else find_method(config["method"])
    cells = result.recipe.removeprefix(f"{row}_")  # 10way in maml_10way, a recipe for one number of ways
    name = kind.label if row == config.get("method") else row
    label = name if result.recipe == row else f"{name}, {re.sub(r'(?<=[0-9])(?=[a-z])', '-', cells)}"
    label = f"stage 1, {config['classifier']}" if stage_one else label
    n_answers = np.max(config["val_n_way"]) * np.max(config["val_n_query"]) * config["val_episodes"]
    return Line(label, kind, [before + s / 60 for s in seconds], mean, half, [0.5 / n_answers] * len(mean))


def _describe_facts(curves: Sequence[Curves]) -> str:
    def all_of(key: str) -> str:
        return " or ".join(dict.fromkeys(str(c.header[key]) for c in curves))

    seeds = ", ".join(dict.fromkeys(str(c.seed) for c in curves))
    return (
        f"test classes, {all_of('n_episodes')} episodes a point, {N_QUERY} queries a class; training seed {seeds}; "
        "bands: 95% intervals over episodes"
    )


def _describe_hardware(results: dict[str, Result], names: Sequence[str]) -> str:
    machines = dict.fromkeys(str(_find_header(results[name]).value("hardware")) for name in names)
    return f"bands: 95% intervals over episodes; one training seed; minutes on {'; '.join(machines)}"
