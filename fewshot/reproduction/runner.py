"""Runs the recipes of a data set that have not run yet, stores their results, and makes the tables from these."""

import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot.config import find_differing_options, have_variants_changed
from fewshot.evaluation.report import format_percent, write_section
from fewshot.evaluation.statistics import Estimate
from fewshot.reproduction.launchers import Job, Launcher, LocalLauncher, run_jobs
from fewshot.reproduction.recipes import find_runs, select_measuring, select_own
from fewshot.reproduction.results import Result, read_results
from fewshot.reproduction.runs import Run
from fewshot.reproduction.tables import accuracies, published, trainings
from fewshot.reproduction.tables.accuracies import FLOOR_ROWS, REFERENCE, Plan
from fewshot.reproduction.tables.domains import format_domains
from fewshot.reproduction.tables.leak import format_leak
from fewshot.reproduction.tables.summary import COLUMNS, format_best_of_kind, format_summary
from fewshot.training.run_folder import NOT_COMPARED

MAIN_TABLE, SHORT_TABLE = "main table", "short table"  # their names in the marker lines of README.md and RESULTS.md


@dataclass(frozen=True)
class Asked:
    """What the tables show: recipes or rows, cells such as 5w1s, training seeds. An empty field means all."""

    methods: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None


def run_all(
    runs: Sequence[Run],
    scripts: Path,
    results: Path | None,
    budget_minutes: float | None = None,
    launcher: Launcher | None = None,
    train_only: bool = False,
) -> list[Run]:
    """Run the incomplete runs and resume interrupted ones; returns the runs that failed.

    Args:
        runs: those that others start from stand before them.
        scripts: the folder of the scripts that run them; where one is missing, the subcommand runs in its place.
        results: the folder for the result of each complete run; that of a run of another folder of recipes goes to the
            folder of that name beside it. None: nothing is kept but the run itself.
        budget_minutes: stop after so long; what runs then saves its state.
        launcher: where they run (default: one after the other, on this machine).
        train_only: run only the trainings, without their test split, and keep no result; a later call measures them.

    Returns:
        The runs that failed twice, and those that start from one of them.

    Raises:
        ConfigError: before anything runs, for a folder that holds another run.
    """
    deadline = time.monotonic() + 60 * budget_minutes if budget_minutes is not None else float("inf")
    runs = [run for run in runs if run.config.max_steps or not train_only]
    for run in runs:
        run.check()
    group = runs[-1].group if runs else ""  # the last run is no stage 1 of another folder's recipes
    titles = {run.folder.path: run.title if run.group == group else f"{run.group}, {run.title}" for run in runs}
    by_title = {titles[run.folder.path]: run for run in runs}

    def finish(job: Job) -> None:
        if results is not None and not train_only:
            run = by_title[job.title]
            folder = results if run.group == group else results.with_name(run.group)
            run.result().write(find_result_file(folder, run))

    jobs = [_make_job(run, scripts, titles, train_only) for run in runs]
    outcome = run_jobs(jobs, launcher or LocalLauncher(), deadline, finish)
    if outcome.left:
        left = [f"{job.title}{' (begun)' * job.log.exists()}" for job in outcome.left]
        print(f"the budget is spent before: {'; '.join(left)}. The same command goes on from there", flush=True)
    return [by_title[job.title] for job in outcome.failed]


def _make_job(run: Run, scripts: Path, titles: Mapping[Path, str], train_only: bool) -> Job:
    script = scripts / run.script
    # -P: a folder named fewshot in the current directory must not be imported instead of the package.
    program = [str(script)] if script.exists() else ["-P", "-m", "fewshot", run.subcommand]
    needs = titles.get(run.stage_one.folder.path, "") if run.stage_one else ""

    def describe() -> str:
        if train_only:
            step, _, mean, half = max(run.history, key=lambda point: point[2])
            line = f"validation {format_percent(Estimate(mean, half))} at step {step}"
        else:
            line = "  ".join(f"{r.cell} {format_percent(r.estimate)}" for r in run.records(run.own_row))
        return f"{run.stages[-1][1]:.1f} min  {line}"

    return Job(
        titles[run.folder.path],
        (sys.executable, *program, *run.arguments, *(["--train_only", "true"] if train_only else [])),
        run.folder.path / "log.txt",
        run.folder.config,
        lambda: run.trained if train_only else run.complete,
        describe,
        needs,
    )


def find_result_file(results: Path, run: Run) -> Path:
    """The file for the result of a run."""
    return results / f"{run.name}-seed{run.config.seed}.json"


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


def format_section(recipes: Path, stored: Path, published_file: Path, asked: Asked | None = None) -> str:
    """Format the tables of a data set as Markdown from its recipes, its stored results and published numbers.

    `asked`: which recipes, cells and seeds the tables show (default: all).
    """
    asked = asked or Asked()
    found = find_runs(recipes, Path("unused"), names=asked.methods)
    runs = select_own(select_measuring(found, asked.cells), recipes)
    results, planned = load_stored(stored, runs, quiet=asked != Asked()), plan_rows(runs)
    if asked.seeds is not None:
        results = [result for result in results if result.seed in asked.seeds]
    cells = sorted(
        {cell for run in runs for cell in run.cells if not asked.cells or accuracies.shorten(cell) in asked.cells},
        key=lambda cell: [int(n) for n in re.findall(r"\d+", cell)],
    )
    seeds = " ".join(str(seed) for seed in sorted({result.seed for result in results}))
    inside = recipes.resolve().parts[-3:-1] == ("scripts", "recipes")
    program = "python scripts/reproduce.py" if inside else f"fewshot reproduce --recipes {recipes.parent}"
    command = f"{program} {recipes.name}{f' --seeds {seeds}' if seeds not in ('', '0') else ''}"
    facts = trainings.format_facts(results, command, planned)
    if any(run.test_set for run in runs):
        domains = {
            test_set: accuracies.make_rows(results, {r.name: planned[r.name] for r in runs if r.test_set == test_set})
            for test_set in dict.fromkeys(run.test_set for run in runs)
        }
        parts = [*format_domains(domains), facts]
    else:
        parts = [*_format_one_set(runs, results, planned, cells, published.read(published_file), facts)]
    cost = trainings.format_costs(results)
    if cost:
        parts += ["What an episode costs (before: all images embedded once, for features that stay; memory of the "
                  "whole process):", cost, *trainings.describe_base_classes(results)]  # fmt: skip
    parts += ["How they were trained:", trainings.format_trainings(results, planned)]
    missing = trainings.format_missing(results, planned, f"{program} {recipes.name}")
    return "\n\n".join([*parts, *(["Not run yet, and what runs it:", missing] if missing else [])])


def _format_one_set(
    runs: Sequence[Run],
    results: Sequence[Result],
    planned: Mapping[str, Plan],
    cells: Sequence[str],
    numbers: published.Published,
    facts: str,
) -> Iterator[str]:
    """The tables of accuracies: of the test set and those of `test_also`, against papers, and minus the reference."""
    rows = accuracies.make_rows(results, planned)
    yield from (accuracies.format_accuracies(rows, cells), facts)
    leak = format_leak(rows, cells)
    if leak:
        yield from ("Groups on both sides of an episode (shared), or not (apart); the leak is paired by episode, whose "
                    "classes are the same:", leak)  # fmt: skip
    for test_set in dict.fromkeys(name for run in runs for name in run.config.test_also):
        also = {run.name: planned[run.name] for run in runs if test_set in run.config.test_also}
        of_set = accuracies.make_rows(results, also, test_set)
        yield from (f"The same test classes, {test_set}:", accuracies.format_accuracies(of_set, cells))
    against = published.format_against(rows, cells, numbers)
    if against:
        yield from ("Against published numbers:", against, f"Sources. {published.format_sources(numbers)}.")
    minus = accuracies.format_differences(rows, cells, REFERENCE)
    if minus:
        yield from ("Differences, paired by episode (a dash: measured on other episodes or drawings):", minus)


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
