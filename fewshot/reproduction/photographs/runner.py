"""Runs the measurements on all sets, keeps their records, and writes their tables."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot.errors import DataError
from fewshot.evaluation import report
from fewshot.reproduction.photographs.flaws import format_flaws, measure_flaws
from fewshot.reproduction.photographs.regions import format_regions, measure_regions
from fewshot.reproduction.photographs.sets import INPUT_PX, SETS, EmbeddedSet, load_set
from fewshot.reproduction.photographs.suggestions import format_suggestions, measure_suggestions
from fewshot.reproduction.photographs.suspects import format_suspects, measure_suspects
from fewshot.reproduction.photographs.watch import format_watch, measure_watch
from fewshot.runtime.files import format_json_by_line, write_whole
from fewshot.runtime.provenance import collect_provenance

Record = dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """`measure(set, repetitions)` gives records, `format` makes their table; `heading` and `text` stand above it.

    `sets`: of `SETS`. `counted`: how the repetitions are told, `{}` their number. `asks_network`: whether features are
    measured, not pictures alone.
    """

    heading: str
    text: str
    measure: Callable[[EmbeddedSet, int], list[Record]]
    format: Callable[[list[Record]], str]
    sets: tuple[str, ...] = tuple(SETS)
    counted: str = "{} repetitions (half of them for suspects, a tenth for regions), each drawn by its number"
    asks_network: bool = True


MEASUREMENTS = {
    "suspects": Measurement(
        "Suspicious labels",
        "One photograph of a folder is put into a wrong class, at random; `check` looks at the folder. Its place by "
        "suspicion, whether the finding names it, and how many photographs with right labels are named.",
        lambda data, n: [measure_suspects(data, 5, max(2, n // 2))],
        format_suspects,
    ),
    "flaws": Measurement(
        "Dark, bright, blurred and mirrored photographs",
        "Folders of 8 classes of 5 photographs. In %: how many ordinary photographs each finding of `check` names, and "
        "how often it names one whose grey values are a quarter or an eighth, or four or eight times, what they were; "
        "one blurred by a Gaussian whose deviation is 1% or 2% of the side; and a mirrored copy, saved as JPEG, beside "
        "its original. CIFAR-FS's 32 px and most signs are enlarged to the size of the check, so that none looks sharp "
        "and no blur is found.",
        lambda data, n: [measure_flaws(data, n)],
        format_flaws,
        asks_network=False,
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
    "watch": Measurement(
        "When photographs change",
        "5 classes of 4 or 10 photographs, refusals at `false_reject_rate` 0.1; then a stream of photographs of other "
        "groups, judged as `fewshot monitor` does with `false_alarm_rate` 0.01, all settings chosen on other data. How "
        "many streams have an alarm, and at which photograph after the change: median and quartiles, ∞ where the "
        "stream ends first. Shifts are those above; `other classes`: no photograph is of a known class. The last two "
        "columns: 60 photographs without a change come first.",
        lambda data, n: measure_watch(data, max(2, n // 2)),
        format_watch,
        ("euro coins", "GTSRB"),
        "half of {} repetitions, each drawn by its number; shares of them with Wilson's interval",
    ),
}


def measure(names: Sequence[str], n_repetitions: int, results: Path, data_root: str | None) -> None:
    """Measure what `names` says on every set that `results` has no records of, one file a measurement and set."""
    for title in SETS:
        missing = [n for n in names if title in MEASUREMENTS[n].sets and not _name_file(results, n, title).exists()]
        if not missing:
            continue
        data = load_set(title, data_root)
        for name in missing:
            made = MEASUREMENTS[name].measure(data, n_repetitions)
            header = {"measurement": name, "n_repetitions": n_repetitions, "input_px": INPUT_PX, **collect_provenance()}
            records = [{"dataset": title, "fingerprint": data.fingerprint, **record} for record in made]
            print(f"{title}\n{MEASUREMENTS[name].format(records)}", flush=True)
            results.mkdir(parents=True, exist_ok=True)
            write_whole(_name_file(results, name, title), format_json_by_line(header | {"records": records}, "records"))


def _name_file(results: Path, name: str, title: str) -> Path:
    return results / f"{name}-{title.lower().replace(' ', '_')}.json"


def write_tables(results: Path, page: str) -> None:
    """Write the table of each measurement into its own section of `page`."""
    for name, what in MEASUREMENTS.items():
        files = [file for title in SETS if (file := _name_file(results, name, title)).exists()]
        if not files:
            continue
        try:
            contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
            table = what.format([record for content in contents for record in content["records"]])
            commits = ", ".join(sorted({content["commit"] for content in contents}))
            counts = ", ".join(sorted({str(content["n_repetitions"]) for content in contents}))
            network = f"; EfficientNet-Lite0 at {contents[0]['input_px']} px, logistic regression, nothing trained"
            facts = (
                f"Mean ± 95% interval, {what.counted.format(counts)}{network if what.asks_network else ''}. "
                f"`fewshot review`, commit {commits}, data "
                + ", ".join(dict.fromkeys(f"{r['dataset']} {r['fingerprint']}" for c in contents for r in c["records"]))
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{results} holds files that are no records of {name} ({error})") from error
        report.write_section(page, name, what.heading, f"{what.text}\n\n{table}\n\n{facts}.")
