"""Runs the recipes of a data set that have not run yet, stores their results, and makes the tables from these."""

import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fewshot.config import find_differing_options, have_variants_changed
from fewshot.evaluation.report import format_percent, write_section
from fewshot.reproduction.recipes import find_runs
from fewshot.reproduction.results import Result, read_results
from fewshot.reproduction.runs import Run
from fewshot.reproduction.tables import accuracies, published, trainings
from fewshot.reproduction.tables.accuracies import FLOOR_ROWS, REFERENCE, Plan
from fewshot.reproduction.tables.summary import COLUMNS, format_best_of_kind, format_summary
from fewshot.runtime.signals import Interruption
from fewshot.training.run_folder import NOT_COMPARED

LOG_LINES = 10  # shown of the log of a failed run
POLL_SECONDS = 0.1
MAIN_TABLE, SHORT_TABLE = "main table", "short table"  # their names in the marker lines of README.md and RESULTS.md


def run_all(runs: Sequence[Run], scripts: Path, results: Path, budget_minutes: float | None = None) -> list[Run]:
    """Run the incomplete runs one after the other, resuming interrupted ones; returns the runs that failed.

    The result of each complete run is written to the folder `results`. `budget_minutes`: stop after this time; the
    current run then saves its state. Raises `ConfigError`, before anything runs, if a folder holds another run.
    """
    deadline = time.monotonic() + 60 * budget_minutes if budget_minutes is not None else float("inf")
    for run in runs:
        run.check()
    failed, left = [], []
    for run in runs:
        had_run = run.complete
        if not had_run and time.monotonic() >= deadline:
            left.append(run.title)
            continue
        problem = "" if had_run else _execute(run, scripts, deadline)
        if problem:
            failed.append(run)
            print(f"{run.title}: FAILED, {problem}", flush=True)
        elif run.complete:
            run.result().write(find_result_file(results, run))
            line = "  ".join(f"{r.cell} {format_percent(r.estimate)}" for r in run.records(run.own_row))
            print(f"{run.title}: {run.stages[-1][1]:.1f} min  {line}{'  (had run)' * had_run}", flush=True)
        else:
            left.append(f"{run.title} (begun)")
    if left:
        print(f"the budget is spent before: {'; '.join(left)}. The same command goes on from there", flush=True)
    return failed


def find_result_file(results: Path, run: Run) -> Path:
    """The file for the result of a run."""
    return results / f"{run.name}-seed{run.config.seed}.json"


def _execute(run: Run, scripts: Path, deadline: float) -> str:
    """Execute a run; returns why it failed, with the end of its log; empty if it ended, or reached the deadline."""
    resume = ["--resume"] if run.folder.config.exists() else []
    script = scripts / run.script
    # -P: a folder named fewshot in the current directory must not be imported instead of the package.
    program = [str(script)] if script.exists() else ["-P", "-m", "fewshot", run.subcommand]
    command = [sys.executable, *program, *run.arguments, *resume]
    run.folder.path.mkdir(parents=True, exist_ok=True)
    path = run.folder.path / "log.txt"
    print(f"{run.title}: running, output in {path}", flush=True)
    with (
        path.open("a") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT) as child,
        Interruption() as interruption,
    ):
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            late = time.monotonic() >= deadline
            if late or interruption.was_requested():
                child.terminate()  # lets it save its state; after Ctrl-C in a terminal it has had the signal already
                child.wait()
                if late:
                    return ""
                interruption.leave(f"stopped in {run.title}; the same command goes on from there")
    if child.returncode == 0 and run.complete:
        return ""
    lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n    ".join([f"exit status {child.returncode}; the end of {path}:", *lines])


def plan_rows(runs: Iterable[Run]) -> dict[str, Plan]:
    """Plan which rows and cells of the tables each run measures; the reference also measures the untrained rows."""
    planned: dict[str, Plan] = {}
    for run in runs:
        rows = [run.own_row, *run.variants, *(FLOOR_ROWS if run.name == REFERENCE and run.config.test_floor else ())]
        planned.setdefault(run.name, Plan(run.row, dict.fromkeys(rows, run.cells)))
    return planned


def load_stored(folder: Path, runs: Sequence[Run], *, quiet: bool = False) -> list[Result]:
    """Load the results in `folder` of the current version of the recipes; prints which are outdated, unless `quiet`.

    `runs`: one of each recipe, with any seed.
    """
    configs = {run.name: run.config for run in runs}
    current = []
    for result in read_results(folder):
        config = configs.get(result.recipe)
        differing = find_differing_options(result.facts["config"], replace(config, seed=result.seed)) if config else {}
        what = [f"{key} was {held!r}, is {now!r}" for key, (held, now) in differing.items() if _matters(key, held, now)]
        if config is None or what:
            why = f"the recipe has changed since ({', '.join(what)})" if config else "there is no such recipe"
            if not quiet:
                print(f"left out of the tables: {result.recipe}, seed {result.seed}: {why}", flush=True)
        else:
            current.append(result)
    return current


def _matters(option: str, held: object, now: object) -> bool:
    """Whether a differing option changes the numbers, and not only the places where files lie."""
    if option == "test_variants":  # variants that were added or removed change no number of the others
        return have_variants_changed(held or {}, now or {})
    another_place = option == "pretrained_run" and held is not None and now is not None
    return option not in NOT_COMPARED and not another_place


def format_section(recipes: Path, stored: Path, published_file: Path) -> str:
    """Format the tables of a data set as Markdown from its recipes, its stored results and published numbers."""
    runs = find_runs(recipes, Path("unused"))
    results, planned = load_stored(stored, runs), plan_rows(runs)
    cells = sorted(
        {cell for run in runs for cell in run.cells}, key=lambda cell: [int(n) for n in re.findall(r"\d+", cell)]
    )
    rows, numbers = accuracies.make_rows(results, planned), published.read(published_file)
    seeds = " ".join(str(seed) for seed in sorted({result.seed for result in results}))
    inside = recipes.resolve().parts[-3:-1] == ("scripts", "recipes")
    program = "python scripts/reproduce.py" if inside else f"fewshot reproduce --recipes {recipes.parent}"
    command = f"{program} {recipes.name}{f' --seeds {seeds}' if seeds not in ('', '0') else ''}"
    parts = [accuracies.format_accuracies(rows, cells), trainings.format_facts(results, command, planned)]
    for test_set in dict.fromkeys(name for run in runs for name in run.config.test_also):
        also = {run.name: planned[run.name] for run in runs if test_set in run.config.test_also}
        of_set = accuracies.make_rows(results, also, test_set)
        parts += [f"The same test classes, {test_set}:", accuracies.format_accuracies(of_set, cells)]
    against = published.format_against(rows, cells, numbers)
    if against:
        parts += ["Against published numbers:", against, f"Sources. {published.format_sources(numbers)}."]
    minus = accuracies.format_differences(rows, cells, REFERENCE)
    if minus:
        parts += ["Differences, paired by episode (a dash: measured on other episodes or drawings):", minus]
    cost = trainings.format_costs(results)
    if cost:
        parts += ["What an episode costs (before: all images embedded once, for features that stay; memory of the "
                  "whole process):", cost]  # fmt: skip
    return "\n\n".join([*parts, "How they were trained:", trainings.format_trainings(results, planned)])


def make_summaries(scripts: Path, stored: Path) -> dict[str, str]:
    """Make the main table and the short one from the recipes, the published numbers and all results."""
    rows, numbers = {}, {}
    for dataset in COLUMNS:
        runs = find_runs(scripts / "recipes" / dataset, Path("unused"))
        rows[dataset] = accuracies.make_rows(load_stored(stored / dataset, runs), plan_rows(runs))
        numbers[dataset] = published.read(scripts / "published" / f"{dataset}.yaml")
    return {MAIN_TABLE: format_summary(rows, numbers), SHORT_TABLE: format_best_of_kind(rows, numbers)}


def refresh_summaries(scripts: Path, stored: Path, files: Iterable[Path]) -> list[Path]:
    """Write both tables into those of `files` that have the marker lines for them; returns these files."""
    holders = [
        (path, name)
        for path in files
        for name in (MAIN_TABLE, SHORT_TABLE)
        if path.exists() and f"<!-- {name}: begin -->" in path.read_text("utf-8")
    ]
    texts = make_summaries(scripts, stored) if holders else {}
    for path, name in holders:
        write_section(path, name, "All methods", texts[name])
    return [path for path, _ in holders]
