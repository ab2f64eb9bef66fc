"""Runs the measurements on all sets, keeps their records, and writes their tables."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot.errors import DataError
from fewshot.evaluation import report
from fewshot.reproduction.photographs.regions import format_regions, measure_regions
from fewshot.reproduction.photographs.sets import INPUT_PX, SETS, EmbeddedSet, load_set
from fewshot.reproduction.photographs.suggestions import format_suggestions, measure_suggestions
from fewshot.reproduction.photographs.suspects import format_suspects, measure_suspects
from fewshot.runtime.files import format_json_by_line, write_whole
from fewshot.runtime.provenance import collect_provenance

Record = dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """`measure(set, repetitions)` gives records, `format` makes their table; `heading` and `text` stand above it."""

    heading: str
    text: str
    measure: Callable[[EmbeddedSet, int], list[Record]]
    format: Callable[[list[Record]], str]


MEASUREMENTS = {
    "suspects": Measurement(
        "Suspicious labels",
        "One photograph of a folder is put into a wrong class, at random; `check` looks at the folder. Its place by "
        "suspicion, whether the finding names it, and how many photographs with right labels are named.",
        lambda data, n: [measure_suspects(data, 5, max(2, n // 2))],
        format_suspects,
    ),
    "suggestions": Measurement(
        "What to label next",
        "8 classes with 2 labelled photographs each; 8 more are labelled, chosen by `suggest` or at random among up to "
        "150. Accuracy in % on photographs of other groups.",
        lambda data, n: [measure_suggestions(data, n)],
        format_suggestions,
    ),
    "regions": Measurement(
        "Where it looked",
        "8 classes of 4 photographs; of right answers the 20% strongest cells of the map are painted in the picture's "
        "mean colour, or a random 20%. By how many points the answer's probability falls, and on which share of them "
        "more with the strongest. A map is worth showing from 80% on, so the page shows none.",
        lambda data, n: [measure_regions(data, max(1, n // 10))],
        format_regions,
    ),
}


def measure(names: Sequence[str], n_repetitions: int, results: Path, data_root: str | None) -> None:
    """Measure what `names` says on every set, one file of records each."""
    found: dict[str, list[Record]] = {name: [] for name in names}
    for title in SETS:
        data = load_set(title, data_root)
        for name, what in MEASUREMENTS.items():
            if name not in names:
                continue
            made = what.measure(data, n_repetitions)
            found[name] += [{"dataset": title, "fingerprint": data.fingerprint, **record} for record in made]
            print(f"{title}\n{what.format(found[name][-len(made) :])}", flush=True)
            content = {"measurement": name, "n_repetitions": n_repetitions, "input_px": INPUT_PX}
            content |= collect_provenance() | {"records": found[name]}
            results.mkdir(parents=True, exist_ok=True)
            write_whole(results / f"{name}.json", format_json_by_line(content, "records"))


def write_tables(results: Path, page: str) -> None:
    """Write the table of each file of records into its own section of `page`."""
    for name, what in MEASUREMENTS.items():
        file = results / f"{name}.json"
        if not file.exists():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            table = what.format(content["records"])
            facts = (
                f"Mean ± 95% interval, {content['n_repetitions']} repetitions (half of them for suspects, a tenth "
                f"for regions), each drawn by its number; EfficientNet-Lite0 at {content['input_px']} px, logistic "
                "regression, nothing trained. "
                f"`{content['command']}`, commit {content['commit']}, data "
                + ", ".join(dict.fromkeys(f"{r['dataset']} {r['fingerprint']}" for r in content["records"]))
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file} holds no records of {name} ({error})") from error
        report.write_section(page, name, what.heading, f"{what.text}\n\n{table}\n\n{facts}.")
