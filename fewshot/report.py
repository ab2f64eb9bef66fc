"""Tables made from records alone; accuracy becomes percent here and nowhere else."""

from collections.abc import Mapping, Sequence

from fewshot.records import Records
from fewshot.statistics import Estimate


def percent(estimate: Estimate) -> str:
    """`98.46 ± 0.14`."""
    return f"{100 * estimate.mean:.2f} ± {100 * estimate.half_width_95:.2f}"


def table(rows: Mapping[str, Sequence[Records]]) -> str:
    """A table of accuracies in percent: a row per method, a column per cell."""
    cells = [records.cell for records in next(iter(rows.values()))]
    lines = [["", *cells], *([name, *(percent(r.estimate) for r in records)] for name, records in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    return "\n".join([text[0], "─" * len(text[0]), *text[1:]])


def facts(records: Records) -> str:
    """One line on what was measured: test set, episodes, seed, fingerprint, commit."""
    head = records.header
    kind = "transductive" if head["transductive"] else "inductive"
    chosen = head.get("selected_on", "unknown")
    return (
        f"{head['dataset']}/{head['split']}, {head['n_episodes']} episodes, {head['spec']['n_query']} queries a class, "
        f"seed {head['seed']}, {kind}, weights selected on {chosen}; mean ± 95% interval over episodes (%); "
        f"data {head['data_fingerprint']}, commit {head['commit']}, {head['precision']}"
    )
