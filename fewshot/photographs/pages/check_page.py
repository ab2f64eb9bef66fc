"""Writes the findings of `check_folder` and the estimates of accuracy as one HTML page with pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fewshot.images.listing import list_few
from fewshot.photographs.inspection.check import FolderCheck
from fewshot.photographs.inspection.extrapolation import Extrapolation
from fewshot.photographs.inspection.findings import SEVERITIES, Finding, Flagged
from fewshot.photographs.inspection.intervals import Proportion
from fewshot.photographs.inspection.learning_curve import FolderEstimate, ShotsCurve
from fewshot.photographs.pages import html
from fewshot.photographs.pages.charts import draw_curve
from fewshot.photographs.pages.confusion import count_confusions, write_confusion_table
from fewshot.photographs.pages.html import escape
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import write_whole

SHOWN_SETS = 24  # sets of files with pictures in each finding
SHOWN_IN_SET = 6
SHOWN_NAMES = 200
BYTES_OF_A_FINDING = 1_500_000
WITHOUT_PICTURES = ("unreadable", "camera formats", "other files")


def write_check(
    path: str | Path,
    check: FolderCheck,
    estimate: FolderEstimate | None = None,
    labels: Sequence[int] | None = None,
    class_names: Sequence[str] = (),
    curve: ShotsCurve | None = None,
    law: Extrapolation | None = None,
    facts: Sequence[tuple[str, object]] = (),
    absent: Sequence[str] = (),
) -> None:
    """Write one self-contained HTML file, or nothing if writing fails.

    `estimate`: from `predict_left_out`, with the `labels` (n,) and `class_names` that it was made with. `curve`,
    `law`: accuracy against images a class. `facts`: names and values for the foot of the page. `absent`: classes
    that the estimate had to leave out.
    """
    grouped = check.group_counts is not None
    classes = format_count(len(check.class_counts), "class", "classes")
    title = f"{Path(check.root).name}: {format_count(check.n_images, 'photograph')}, {classes}"
    parts = [f"<header><h1>{escape(title)}</h1>{_write_tiles(check, estimate)}</header>"]
    parts += [_write_finding(Path(check.root), finding) for finding in check.findings]
    if not check.findings:
        parts.append("<section><h2>Nothing to mend</h2></section>")
    parts.append(_write_counts(check))
    if estimate is not None:
        parts.append(_write_estimate(estimate, labels, class_names, grouped, absent))
    if curve is not None:
        parts.append(_write_curve(curve, law, class_names, grouped))
    shown = html.write_facts(
        [("looked at with", f"{check.size_px} x {check.size_px} px"), ("read in", f"{check.seconds:.1f} s"), *facts]
    )
    parts.append(f"<footer>{shown}</footer>")
    body = "<main>\n" + "\n".join(parts) + "\n</main>" + html.ENLARGED
    write_whole(path, html.write_page(title, body, html.read_asset("enlarge.js")))


def _write_tiles(check: FolderCheck, estimate: FolderEstimate | None) -> str:
    figures = []
    if estimate is not None:
        p = estimate.overall
        figures.append((f"{p.mean:.1%}", f"right when left out, 95% interval {p.low:.1%} to {p.high:.1%}"))
    if check.n_groups is not None:
        figures.append(_split_count(check.n_groups, "group"))
    for severity in SEVERITIES:
        figures.append(_split_count(sum(finding.severity == severity for finding in check.findings), severity))
    return html.write_tiles(figures)


def _split_count(n: int, noun: str) -> tuple[str, str]:
    number, _, words = format_count(n, noun).partition(" ")
    return number, words


def _write_finding(root: Path, finding: Finding) -> str:
    said = finding.sentence[:1].upper() + finding.sentence[1:]
    head = f'<p class="kind">{escape(finding.severity)}: {escape(finding.kind)}</p><h2>{escape(said)}.</h2>'
    files = _write_files(root, finding)
    if files and finding.severity == "note":  # folded, so that nobody has to scroll past a note's files
        files = f'<details class="more"><summary>show</summary>{files}</details>'
    return f'<section class="finding {finding.severity}">{head}{files}</section>'


def _write_files(root: Path, finding: Finding) -> str:
    if not finding.flagged:
        return ""
    pictured = () if finding.kind in WITHOUT_PICTURES else finding.flagged[:SHOWN_SETS]
    shown = (name for flagged in pictured for name in (*flagged.files[:SHOWN_IN_SET], *flagged.like))
    data = html.make_thumbnails((root / name for name in shown), n_bytes=BYTES_OF_A_FINDING)
    sets = "".join(_write_set(root, flagged, data) for flagged in pictured)
    rest = finding.flagged[len(pictured) :]
    items = "".join(f"<li>{escape(' = '.join(f.files))}: {escape(f.why)}</li>" for f in rest[:SHOWN_NAMES])
    more = f"<li>and {len(rest) - SHOWN_NAMES:,} more</li>" if len(rest) > SHOWN_NAMES else ""
    listed = f'<ul class="files">{items}{more}</ul>'
    if not pictured:
        return listed
    hidden = f'<details class="more"><summary>{len(rest):,} more</summary>{listed}</details>' if rest else ""
    return f'<div class="sets">{sets}</div>{hidden}'


def _write_set(root: Path, flagged: Flagged, data: dict[Path, str]) -> str:
    figures, alike = (
        "".join(
            f"<figure>{html.write_picture(data.get(root / name), name)}<figcaption>{escape(name)}</figcaption></figure>"
            for name in names
        )
        for names in (flagged.files[:SHOWN_IN_SET], flagged.like)
    )
    like = f'<h3>Most like</h3><div class="like">{alike}</div>' if alike else ""
    more = len(flagged.files) - SHOWN_IN_SET
    why = flagged.why + (f"; and {format_count(more, 'more file')}" if more > 0 else "")
    return f'<div class="set"><div>{figures}</div><p>{escape(why)}</p>{like}</div>'


def _write_counts(check: FolderCheck) -> str:
    most = max(1, *check.class_counts.values())
    bars = []
    for name, n in check.class_counts.items():
        groups = "" if check.group_counts is None else f" in {format_count(check.group_counts[name], 'group')}"
        bars.append(html.write_bar(n / most, name, f"{n:,}{groups}"))
    return f'<section><h2>Photographs of each class</h2><div class="bars">{"".join(bars)}</div></section>'


def _write_estimate(
    estimate: FolderEstimate,
    labels: Sequence[int] | None,
    class_names: Sequence[str],
    grouped: bool,
    absent: Sequence[str],
) -> str:
    p = estimate.overall
    what, number = ("group", format_count(p.n_groups, "group")) if grouped else ("photograph", "photographs")
    count = format_count(p.n_images, "photograph")
    names = [class_names[c] if c < len(class_names) else f"class {c}" for c in range(len(estimate.by_class))]
    note = (
        f"Each of the {number} was left out in turn, with a {what} of each other class, and predicted from the rest: "
        f"{_format_interval(p)}, from {count}. The interval is for others of the same kind; "
        "with another camera, light or place the accuracy can be lower."
    )
    bars, unknown = [], []
    for name, of_class in zip(names, estimate.by_class, strict=True):
        if of_class is None:
            unknown.append(name)
        else:
            bars.append(
                html.write_bar(of_class.mean, name, f"{of_class.mean:.0%} ({of_class.low:.0%} to {of_class.high:.0%})")
            )
    missing = ""
    if unknown:
        alone = "are of one group" if grouped else "are copies of one"
        missing = f'<p class="note">Not measured, since all photographs {alone}: {escape(", ".join(unknown))}.</p>'
    if absent:
        missing += f'<p class="note">Left out, fewer than two photographs: {escape(", ".join(absent))}.</p>'
    table = ""
    if labels is not None:
        rows = [i for i, label in enumerate(np.asarray(labels).tolist()) if estimate.by_class[label] is not None]
        guesses = estimate.predictions.tolist()
        table = write_confusion_table(
            *count_confusions([names[labels[i]] for i in rows], [names[guesses[i]] for i in rows], names)
        )
    return (
        f'<section><h2>How often it would be right</h2><p class="note">{escape(note)}</p>'
        f'<div class="bars">{"".join(bars)}</div>{missing}</section>'
        + (f"<details open><summary>What is taken for what</summary>{table}</details>" if table else "")
    )


def _write_curve(curve: ShotsCurve, law: Extrapolation | None, class_names: Sequence[str], grouped: bool) -> str:
    limits = [class_names[c] if c < len(class_names) else f"class {c}" for c in curve.limited_by]
    note = (
        f"Measured on left-out {'groups' if grouped else 'photographs'}, every class counting the same, up to "
        f"{format_count(curve.shots[-1], 'photograph')} a class: {list_few(limits)} "
        f"{'has' if len(limits) == 1 else 'have'} no more once photographs are kept for the test."
    )
    answers = ""
    if law is not None:
        items = "".join(f"<li>{escape(answer.sentence)}</li>" for answer in law.answers)
        dashed = (
            " The dashed line continues the measured points to at most 4 times as many photographs." if law.law else ""
        )
        said = law.sentence[:1].upper() + law.sentence[1:]
        answers = f'<p class="note">{escape(said)}.{dashed}</p><ul>{items}</ul>'
    return (
        f'<section><h2>How many photographs are needed</h2>{draw_curve(curve, law)}<p class="note">{escape(note)}</p>'
        f"{answers}</section>"
    )


def _format_interval(p: Proportion) -> str:
    return f"{p.mean:.1%} right, 95% interval {p.low:.1%} to {p.high:.1%}"
