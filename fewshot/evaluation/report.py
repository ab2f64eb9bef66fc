"""Formats records as tables; accuracies are converted to percent here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot.errors import DataError
from fewshot.evaluation.record_header import RecordHeader
from fewshot.evaluation.records import Records
from fewshot.evaluation.statistics import Estimate
from fewshot.runtime.files import check_writable, follow_links, read_regular, write_whole


def format_percent(estimate: Estimate, digits: int = 2) -> str:
    """Format an accuracy in percent: `98.46 ± 0.14`."""
    return f"{100 * estimate.mean:.{digits}f} ± {100 * estimate.half_width_95:.{digits}f}"


def format_signed_percent(estimate: Estimate) -> str:
    """Format a difference in percent: `+0.46 ± 0.14` or `−0.46 ± 0.14`."""
    mean = round(100 * estimate.mean, 2) + 0.0  # turns −0.0 into 0.0
    return f"{mean:+.2f} ± {100 * estimate.half_width_95:.2f}".replace("-", "−")


def format_table(rows: Mapping[str, Sequence[Records]]) -> str:
    """Format accuracies in percent: a row for each method, a column for each cell.

    Rows whose weights were trained on test classes or images are marked, see `Measured.mark`.
    """
    cells = [records.cell for records in next(iter(rows.values()))]
    named = {f"{name}{records[0].mark}": records for name, records in rows.items()}
    lines = [["", *cells], *([name, *(format_percent(r.estimate) for r in records)] for name, records in named.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    return "\n".join([text[0], "─" * len(text[0]), *text[1:]])


def format_title(rows: Mapping[str, Sequence[Records]], test_set: str, method: str) -> str:
    """Format the line above a test table; `test_set`: its name in `test_also`, or ""."""
    seen = any(records[0].mark for records in rows.values())
    classes = "Test classes, some of them seen in training" if seen else "Test classes, never seen in training"
    return f"{classes}{f' ({test_set})' if test_set else ''}: {method}"


def format_facts(records: Records) -> str:
    """Format one line about the measurement: test set, episodes, seed, fingerprint, commit."""
    head = records.header
    chosen = head.value("selected_on")
    return (
        f"{head.dataset}/{head.split}, {head.n_episodes} episodes, {_describe_protocol(records)}, "
        f"seed {head.seed}, weights selected on {chosen}; mean ± 95% interval over episodes (%); "
        f"data {head.data_fingerprint}, commit {head.commit}, {head.precision}"
    )


def format_base_classes(header: RecordHeader) -> str:
    """Format one line about what adapting cost the base classes: shares before and after, and their difference."""
    base = header.base_classes
    assert base is not None, "they were not asked for"
    before, after = (format_percent(Estimate(*base[name])) for name in ("before", "after"))
    return (
        f"{base['n_classes']} base classes ({base['classifier']}, {base['n_images']} held-out images an episode): "
        f"{before} before adapting, {after} after: {format_signed_percent(Estimate(*base['difference']))}"
    )


def format_all_facts(rows: Mapping[str, Sequence[Records]]) -> str:
    """Format the facts of the first row, and a line for each row measured by another protocol."""
    first, *_ = rows.values()
    protocols = {name: [_describe_protocol(records) for records in cells] for name, cells in rows.items()}
    others = [
        f"{name}: {'; '.join(dict.fromkeys(protocol))}"
        for name, protocol in protocols.items()
        if set(protocol) != {_describe_protocol(first[0])}
    ]
    return "\n".join([format_facts(first[0]), *others])


def _describe_protocol(records: Records) -> str:
    kind = "transductive" if records.header.transductive else "inductive"
    return f"{records.header.spec['n_query']} queries a class, {kind}"


def write_section(path: str | Path, name: str, heading: str, text: str) -> None:
    """Put `text` between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a file.

    Nothing else in the file changes. A file without these lines gets them at its end, under `heading`, which becomes
    the title of a new file. Raises `DataError` unless both lines occur once, in this order.
    """
    check_section(path, name)
    path = follow_links(path)
    before = _read_report(path)
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in before:
        gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
        after = f"{before}{gap}{'##' if before else '#'} {heading}\n\n{begin}\n{text}\n{end}\n"
    else:
        after = f"{before[: before.index(begin)]}{begin}\n{text}\n{before[before.index(end) :]}"
    write_whole(path, after)


def check_section(path: str | Path, name: str) -> None:
    """Raise `OutputError` or `DataError`, before anything is measured, if `write_section` could not write a section."""
    check_writable(path)
    before = _read_report(follow_links(path))
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    counts = before.count(begin), before.count(end)
    if counts != (0, 0) and not (counts == (1, 1) and before.index(begin) < before.index(end)):
        raise DataError(f"{path} must hold {begin!r} and {end!r} once each, in this order, or neither")


def _read_report(path: Path) -> str:
    """The text of a report, with its line ends; empty where there is none yet."""
    if not path.exists():
        return ""
    try:
        return read_regular(path, str(path), kind="a report").decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error}): name another file") from error
