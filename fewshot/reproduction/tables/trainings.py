"""Formats how the results in the tables were obtained: data, training lengths, minutes, validation, versions."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from fewshot.errors import DataError
from fewshot.evaluation.record_header import RecordHeader
from fewshot.evaluation.records import name_cell
from fewshot.evaluation.report import format_percent, format_signed_percent
from fewshot.evaluation.statistics import Estimate
from fewshot.reproduction.results import Result, describe_curve, name_row
from fewshot.reproduction.tables.accuracies import (
    NO_CELL,
    NOT_RUN,
    OWN_ROWS,
    Plan,
    format_markdown,
    join_distinct,
    label_row,
    shorten,
)

OFTEN_SHARED = {
    "precision": "precision",
    "data_fingerprint": "data",
    "commit": "commit",
    "hardware": "hardware",
}  # fields of headers: `format_facts` names those that all results share, `format_trainings` has columns of the others


def format_trainings(results: Sequence[Result], recipes: Iterable[str]) -> str:
    """Format how each recipe was trained: seeds, number of images or episodes, minutes of each stage, validation.

    Precision, data, commit and hardware have columns if they differ between results; else see `format_facts`.
    """
    differing = [key for key in OFTEN_SHARED if _differs(key, results)]
    head = [
        "recipe", "training seeds", "trained on", "minutes a seed", "best validation", "validation at the end",
        *(OFTEN_SHARED[key] for key in differing),
    ]  # fmt: skip
    lines = []
    for recipe in recipes:
        mine = [result for result in results if result.recipe == recipe]
        about = [*_describe_seeds(mine), *(_join_values(key, mine) for key in differing)] if mine else []
        lines.append([recipe, *(about or [NOT_RUN, *[NO_CELL] * (len(head) - 2)])])
    return format_markdown(head, lines)


def format_missing(results: Sequence[Result], recipes: Iterable[str], command: str) -> str:
    """A line with its command for each recipe that has no result; empty where each has one."""
    ran = {result.recipe for result in results}
    lines = [[recipe, f"`{command} --methods {recipe}`"] for recipe in recipes if recipe not in ran]
    return format_markdown(["recipe", "command"], lines) if lines else ""


def format_costs(results: Sequence[Result]) -> str:
    """Format the cost of an episode for methods that adapt weights: adapted weights, seconds, memory; else empty."""
    measured = [(r.recipe, m) for r in results for row, cells in r.records.items() if row in OWN_ROWS for m in cells]
    if not any(m.header.n_trainable for _, m in measured):
        return ""
    head = ["recipe", "cell", "adapted in the network", "in the head", "seconds an episode", "before, s", "peak MiB"]
    asked = any(m.header.base_classes for _, m in measured)
    head += ["base classes before", "after", "difference"] if asked else []
    lines: list[list[str]] = []
    for recipe, m in measured:
        n = m.header.n_trainable
        adapted = [f"{n[part]:,}" if n else NO_CELL for part in ("network", "head")]
        before = m.header.embedding_seconds or 0.0
        seconds = [f"{m.header.seconds / m.header.n_episodes:.2f}", f"{before:.0f}" if before else NO_CELL]
        lines.append([recipe, shorten(m.cell), *adapted, *seconds, _format_mib(m.header.peak_mib)])
        lines[-1] += _format_base_classes(m.header) if asked else []
    lines.sort(key=lambda line: line[:2])
    return format_markdown(head, lines)


def describe_base_classes(results: Sequence[Result]) -> list[str]:
    """Describe in a sentence the base classes whose accuracies `format_costs` shows; none where nobody asked."""
    found = [header.base_classes for header in _list_headers(results) if header.base_classes]
    texts = [
        f"{base['n_classes']} training classes by the network's {base['classifier']}"
        f", {base['n_images']} an episode of {base['n_held_out']:,} images that were not trained on"
        for base in found
    ]
    return [f"Base classes: {join_distinct(texts)}; accuracy in %, differences paired by episode."] if found else []


def _format_base_classes(header: RecordHeader) -> list[str]:
    if header.base_classes is None:
        return [NO_CELL] * 3
    before, after, difference = (Estimate(*header.base_classes[name]) for name in ("before", "after", "difference"))
    return [format_percent(before), format_percent(after), format_signed_percent(difference)]


def _format_mib(peak: float | None) -> str:
    return NO_CELL if peak is None else f"{peak:,.0f}"


def _describe_seeds(results: Sequence[Result]) -> list[str]:
    """Describe the seeds of one recipe for `format_trainings`, leaving out stages without training.

    Minutes on different hardware are listed separately, in the order in which the hardware is named.
    """
    stages = [[(what, minutes) for what, minutes in result.facts["stages"] if what] for result in results]
    if len({len(of_seed) for of_seed in stages}) > 1:
        raise DataError(f"{results[0].recipe}: its seeds were trained in different numbers of stages")
    minutes: dict[str, list[list[float]]] = {}  # averaged for each hardware
    for result, of_seed in zip(results, stages, strict=True):
        minutes.setdefault(_join_values("hardware", [result]), []).append([m for _, m in of_seed])
    trained = [result for result in results if result.facts["stages"][-1][0]]  # trained itself, not only in stage 1
    return [
        ", ".join(str(result.seed) for result in results),
        join_distinct(" + ".join(what for what, _ in of_seed) or "nothing" for of_seed in stages),
        "; ".join(" + ".join(f"{fmean(m):.1f}" for m in zip(*seeds, strict=True)) for seeds in minutes.values())
        or NO_CELL,
        _find_best_validation(trained) or NO_CELL,
        join_distinct(describe_curve(result.facts["history"]) for result in trained) or NO_CELL,
    ]


def _find_best_validation(results: Sequence[Result]) -> str:
    """Format the best validation mean, averaged over seeds, and its cell: `94.40 (20w1s)`."""
    best = [max(mean for _, _, mean, _ in result.facts["history"]) for result in results if result.facts["history"]]
    if not best:
        return ""
    config = results[0].facts["config"]
    spec = {"n_way": config["val_n_way"], "n_shot": config["val_n_shot"]}
    return f"{100 * fmean(best):.2f} ({shorten(name_cell(spec))})"


def _join_values(key: str, results: Sequence[Result]) -> str:
    """Join the distinct values of the field `key` in the headers of all records."""
    return join_distinct(header.value(key) for header in _list_headers(results))


def _differs(key: str, results: Sequence[Result]) -> bool:
    return len({_join_values(key, [result]) for result in results}) > 1


def _list_headers(results: Sequence[Result]) -> list[RecordHeader]:
    return [measured.header for result in results for records in result.records.values() for measured in records]


def format_facts(results: Sequence[Result], command: str, planned: Mapping[str, Plan]) -> str:
    """Format sentences about what all numbers of the tables share, and the command that reproduces them."""
    headers = _list_headers(results)
    if not headers:
        return f"Nothing was run yet. Command: `{command}`"
    dataset, split, seed = (_join_values(key, results) for key in ("dataset", "split", "seed"))
    shared = [
        f"{name} {_join_values(key, results)}" for key, name in OFTEN_SHARED.items() if not _differs(key, results)
    ]
    return (
        f"{dataset}, {split} classes, {join_distinct(format(h.n_episodes, ',') for h in headers)} episodes a cell, "
        f"{_format_queries(results, planned)} queries a class, episodes of seed {seed}. Accuracy in "
        "%: mean over training seeds ± 95% interval over episodes (standard deviation over training seeds). "
        f"Shared by all: {', '.join([*shared, ''])}torch {join_distinct(h.versions['torch'] for h in headers)}, "
        f"Python {join_distinct(h.versions['python'] for h in headers)}. Command: `{command}`"
    )


def _format_queries(results: Sequence[Result], planned: Mapping[str, Plan]) -> str:
    """Format the queries a class: `15`, or `15 (maml, published protocol: 1; 5)` if a variant has others."""
    usual, others = [], {}
    for result in results:
        config = result.facts["config"]
        own = [name for name, options in config.get("test_variants", {}).items() if "n_query" in options]
        variants = {name_row(test_set, name): name for test_set in ("", *config.get("test_also", {})) for name in own}
        for row, cells in result.records.items():
            n_query = [measured.header.spec["n_query"] for measured in cells]
            if row in variants:
                others.setdefault(label_row(planned[result.recipe].row, variants[row]), []).extend(n_query)
            else:
                usual += n_query
    return join_distinct(usual) + "".join(f" ({name}: {join_distinct(n_query)})" for name, n_query in others.items())
