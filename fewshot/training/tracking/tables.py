"""Tables in TensorBoard's text tab, and the test cells as scalars."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewshot.datasets import ImageSet
from fewshot.evaluation import report
from fewshot.evaluation.records import Records
from fewshot.methods import Method
from fewshot.runtime import processes
from fewshot.runtime.precision import Precision
from fewshot.training.run_folder import RunFolder
from fewshot.training.tracking.answers import Answers
from fewshot.training.tracking.events import naming_events
from fewshot.training.tracking.markdown import format_markdown
from fewshot.training.tracking.projector import project


def track_tests(
    own_row: str,
    rows: Mapping[str, Sequence[Records]],
    method: Method,
    imageset: ImageSet,
    run_dir: str,
    precision: Precision,
    step: int,
    test_set: str = "",
) -> None:
    """Show a test table in TensorBoard: as text, as scalars, and the features of test classes in the projector.

    Every process must call it; the first one writes.

    Args:
        own_row: the row of the weights that the run has trained; its scalars are `test/5-way_1-shot`, those of others
            `test_compared/5-way_1-shot/ROW`.
        rows: the records of each row of the table.
        method: with these weights.
        imageset: the test classes.
        run_dir: of the run.
        precision: what the network computes in.
        step: that the weights are of.
        test_set: the name of a further test set, which then stands behind each tag.
    """
    folder = RunFolder(run_dir).tensorboard
    project(folder, " ".join(filter(None, ("test classes", test_set))), method, imageset, precision)
    if not processes.is_first():
        return
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    with naming_events(folder), SummaryWriter(str(folder)) as writer:
        behind = f"/{test_set}" if test_set else ""
        writer.add_text(f"test{behind}", f"{format_test_table(rows)}\n\n{report.format_all_facts(rows)}", step)
        for row, cells in rows.items():
            for records in cells:
                cell = records.cell.replace(" ", "_")
                own = row == own_row
                tag = f"test/{cell}{behind}" if own else f"test_compared/{cell}{behind}/{row.replace(' ', '_')}"
                writer.add_scalar(tag, records.mean, step)


def format_test_table(rows: Mapping[str, Sequence[Records]]) -> str:
    """Format accuracies in percent as Markdown: a row for each method, a column for each cell."""
    cells = [records.cell for records in next(iter(rows.values()))]
    lines = [
        [f"{name}{records[0].mark}", *(report.format_percent(r.estimate) for r in records)]
        for name, records in rows.items()
    ]
    return format_markdown(["", *cells], lines)


def format_option_table(values: Mapping[str, Any]) -> str:
    """Format names and values as Markdown."""
    return format_markdown(["", ""], [[key, f"`{json.dumps(value)}`"] for key, value in values.items()], right=False)


def format_class_table(answers: Answers, names: Sequence[str]) -> str:
    """Format each class with its accuracy and its most frequent confusion, the hardest class first."""
    wrong = answers.confusion - np.diag(answers.confusion.diagonal())
    asked, accuracy = answers.asked.diagonal(), answers.class_accuracy
    lines = []
    for c in np.argsort(accuracy, kind="stable")[: np.isfinite(accuracy).sum()]:
        other = int(wrong[c].argmax())
        often = f"{names[other]} ({wrong[c, other]} of {answers.asked[c, other]})" if wrong[c, other] else ""
        lines.append([names[c], f"{100 * accuracy[c]:.1f}", str(asked[c]), often])
    head = ["class", "accuracy (%)", "queries", "most often taken for (of the queries that met it)"]
    return format_markdown(head, lines)
