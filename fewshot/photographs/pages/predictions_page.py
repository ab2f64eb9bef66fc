"""Writes the predictions of a folder of photographs as one HTML page."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewshot.errors import DataError
from fewshot.photographs.inspection.intervals import Proportion
from fewshot.photographs.pages import html
from fewshot.photographs.pages.confusion import count_confusions, write_confusion_table
from fewshot.photographs.pages.html import escape
from fewshot.photographs.pages.predictions import Neighbour, PageFacts, Prediction, choose_word_for_none
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import write_whole

SHOWN_CLASSES, SHOWN_NEIGHBOURS = 5, 3
SHOWN_ROWS = 2000  # the least certain predictions; the csv file has all
MAX_BUTTONS = 12  # with more classes, the filter is a drop-down list
NEIGHBOUR_PX, NEIGHBOUR_BYTES = 112, 2_000_000
CORRECTIONS = (
    '\n<aside id="corrections" hidden><span role="status"></span> <a download="corrections.csv">Save '
    '<b>corrections.csv</b></a><button type="button">Forget</button></aside>'
)


def write_predictions(
    path: str | Path,
    predictions: Sequence[Prediction],
    class_names: Sequence[str],
    facts: PageFacts | None = None,
    accuracy: Proportion | None = None,
    *,
    title: str | None = None,
    keep_order: bool = False,
) -> None:
    """Write one self-contained HTML file, the least certain photograph first, or nothing if writing fails.

    `accuracy`: with its interval, if true classes are known. `keep_order`: the photographs in the order given.
    Raises `DataError` for a prediction without a probability for each class.
    """
    for p in predictions:
        if set(p.probabilities) != set(class_names) or p.predicted not in p.probabilities:
            raise DataError(
                f"{p.path}: probabilities are of {format_count(len(p.probabilities), 'class', 'classes')}, "
                f"not of these {len(class_names)}"
            )
    classes = format_count(len(class_names), "class", "classes")
    title = title or f"{format_count(len(predictions), 'photograph')}, {classes}"
    ordered = list(predictions) if keep_order else sorted(predictions, key=lambda p: (p.sure, p.path))
    ordered = ordered[:SHOWN_ROWS]
    parts = [
        f"<header><h1>{escape(title)}</h1>{_write_tiles(predictions, accuracy)}</header>",
        f'<div class="overview">{_write_classes(predictions, class_names)}'
        f"{_write_confusion(predictions, class_names)}</div>",
        _write_controls(ordered, class_names, len(predictions), keep_order),
        _write_rows(ordered, class_names),
        _write_footer(facts or PageFacts(), choose_word_for_none(predictions)),
    ]
    body = "<main>\n" + "\n".join(parts) + "\n</main>" + CORRECTIONS + html.ENLARGED
    scripts = "".join(html.read_asset(name) for name in ("predictions.js", "corrections.js", "enlarge.js"))
    write_whole(path, html.write_page(title, body, scripts))


def _write_tiles(predictions: Sequence[Prediction], accuracy: Proportion | None) -> str:
    known = [p.right for p in predictions if p.right is not None]
    figures = []
    if accuracy is not None:
        figures.append((f"{accuracy.mean:.1%}", f"right, 95% interval {accuracy.low:.1%} to {accuracy.high:.1%}"))
    elif known:
        figures.append((f"{sum(known) / len(known):.1%}", f"right, of {len(known):,} with a known class"))
    if known:
        figures.append((f"{len(known) - sum(known):,}", "wrong"))
    figures.append((f"{sum(p.rejected for p in predictions):,}", choose_word_for_none(predictions)))
    unsure = sum(p.sure < 0.5 for p in predictions)
    return html.write_tiles([*figures, (f"{unsure:,}", "less than 50% sure")])


def _write_classes(predictions: Sequence[Prediction], class_names: Sequence[str]) -> str:
    counts, none = Counter(p.answer for p in predictions), choose_word_for_none(predictions)
    most = max(counts.values(), default=1)
    found = [(name, counts[name]) for name in dict.fromkeys((*class_names, none)) if counts[name]]
    bars = "".join(html.write_bar(n / most, name, f"{n:,}", "none" if name == none else "") for name, n in found)
    opened = " open" if len(found) <= MAX_BUTTONS else ""
    return f'<details{opened}><summary>Answers by class</summary><div class="bars">{bars}</div></details>'


def _write_confusion(predictions: Sequence[Prediction], class_names: Sequence[str]) -> str:
    known = [p for p in predictions if p.truth is not None]
    if not known:
        return ""
    table = write_confusion_table(
        *count_confusions([str(p.truth) for p in known], [p.answer for p in known], class_names)
    )
    return f"<details open><summary>What is taken for what</summary>{table}</details>"


def _write_controls(ordered: Sequence[Prediction], class_names: Sequence[str], n_all: int, keep_order: bool) -> str:
    counts = Counter(p.answer for p in ordered)
    n_wrong = sum(p.right is False for p in ordered)
    buttons = [("all", "", "all", len(ordered))]
    if n_wrong:
        buttons.append(("wrong", "", "wrong", n_wrong))
    none = choose_word_for_none(ordered)
    if counts[none] and none not in class_names:
        buttons.append(("answer", none, none, counts[none]))
    found = [name for name in class_names if counts[name]]
    few = len(found) <= MAX_BUTTONS
    buttons += [("answer", name, name, counts[name]) for name in found if few]
    made = "".join(
        f'<button type="button" data-kind="{kind}" data-name="{escape(name)}" '
        f'aria-pressed="{"true" if kind == "all" else "false"}">{escape(label)} <small>{n:,}</small></button>'
        for kind, name, label, n in buttons
    )
    options = "".join(f'<option value="{escape(n)}">{escape(n)} ({counts[n]:,})</option>' for n in found)
    choice = (
        "" if few else f'<select id="class" aria-label="class"><option value="">any class</option>{options}</select>'
    )
    first = '<option value="place">most helpful first</option>' if keep_order else ""
    cut = f'<p class="note">The {SHOWN_ROWS:,} least certain of {n_all:,}.</p>' if n_all > len(ordered) else ""
    return (
        f'<nav id="controls" hidden aria-label="filter and order"><div class="chips">{made}{choice}</div>'
        f'<div class="tools"><label>Order <select id="order">{first}<option value="sure">least certain first</option>'
        '<option value="-sure">most certain first</option><option value="path">file name</option></select></label>'
        '<label>File <input id="search" type="search" placeholder="part of a name"></label>'
        '<span id="count" role="status"></span>'
        '<span class="keys"><kbd>j</kbd> <kbd>k</kbd> next, previous; <kbd>/</kbd> search</span></div></nav>' + cut
    )


def _write_rows(ordered: Sequence[Prediction], class_names: Sequence[str]) -> str:
    large = html.make_thumbnails(p.picture for p in ordered)
    near = [n for p in ordered for n in p.nearest[:SHOWN_NEIGHBOURS]]
    small = html.make_thumbnails((n.path for n in near), NEIGHBOUR_PX, NEIGHBOUR_BYTES)
    number = {path: i for i, path in enumerate(small)}
    symbols = "".join(  # each support image is stored once, since many photographs may show it
        f'<symbol id="s{number[path]}" viewBox="0 0 1 1"><image href="{data}" width="1" height="1" '
        'preserveAspectRatio="xMidYMid slice"/></symbol>'
        for path, data in small.items()
    )
    rows = "\n".join(
        _write_row(p, place, large.get(p.picture) if p.picture else None, number) for place, p in enumerate(ordered)
    )
    known = escape(json.dumps(list(class_names)))
    store = f'<svg width="0" height="0" class="store" aria-hidden="true">{symbols}</svg>'
    return f'{store}\n<div id="rows" data-classes="{known}">\n{rows}\n</div>'


def _write_row(p: Prediction, place: int, data: str | None, number: Mapping[Path, int]) -> str:
    ranked = sorted(p.probabilities.items(), key=lambda item: -item[1])
    top = ranked[:SHOWN_CLASSES]
    bars = [html.write_bar(share, name, f"{share:.0%}", _choose_kind(name, p)) for name, share in top]
    if len(ranked) > len(top):
        rest = max(0.0, sum(share for _, share in ranked[len(top) :]))
        bars.append(html.write_bar(rest, format_count(len(ranked) - len(top), "other"), f"{rest:.0%}", "rest"))
    verdict = {None: "", True: '<span class="tag right">right</span>', False: '<span class="tag wrong">wrong</span>'}
    truth = "" if p.right is not False else f'<p class="truth">It is {escape(p.truth)}.</p>'
    sure = "" if p.rejected else f"<small>{p.sure:.0%}</small>"
    nearest_class = (
        f'<p class="truth">The nearest class is {escape(p.predicted)}, {p.sure:.0%}.</p>' if p.rejected else ""
    )
    chips = "".join(f'<span class="tag">{escape(name)}</span>' for name in p.could_be)
    could_be = f'<p class="truth">Could be {chips}</p>' if len(p.could_be) > 1 else ""
    neighbours = "".join(_write_neighbour(n, number, p.truth) for n in p.nearest[:SHOWN_NEIGHBOURS])
    alike = f'<div class="near"><h3>Most like</h3><ul>{neighbours}</ul></div>' if neighbours else ""
    name = Path(p.path).name
    return (
        f'<article tabindex="-1" data-answer="{escape(p.answer)}" data-wrong="{int(p.right is False)}" '
        f'data-sure="{p.sure:.6f}" data-path="{escape(p.path)}" data-place="{place}">'
        f'<div class="photo">{html.write_picture(data, f"{name}, answered {p.answer}", p.path)}</div>'
        f'<div class="says"><h2{" class=none" if p.rejected else ""}>{escape(p.answer)} '
        f"{sure}{verdict[p.right]}</h2>{truth}{nearest_class}{could_be}"
        f'<p class="path" title="{escape(p.path)}">{escape(p.path)}</p></div>'
        f'<div class="bars">{"".join(bars)}</div>{alike}</article>'
    )


def _write_neighbour(n: Neighbour, number: Mapping[Path, int], truth: str | None) -> str:
    label = f"{Path(n.path).name}, class {n.class_name}, similarity {n.similarity:.2f}"
    image = '<span class="missing">no picture</span>'
    if n.path in number:
        image = f'<svg role="img" viewBox="0 0 1 1" aria-label="{escape(label)}"><use href="#s{number[n.path]}"/></svg>'
    kind = "" if truth is None else " class=same" if n.class_name == truth else " class=other"
    words = f"<span>{escape(n.class_name)}</span><small>{n.similarity:.2f}</small>"
    return f'<li{kind} title="{escape(label)}">{image}{words}</li>'


def _choose_kind(name: str, p: Prediction) -> str:
    if name == p.truth:
        return "true"
    return "first" if name == p.predicted and not p.rejected else ""


def _write_footer(f: PageFacts, none: str) -> str:
    shown = html.write_facts(
        [
            ("model", f.model_file),
            ("method", f.method),
            ("backbone", f.backbone),
            ("support images", f.n_support),
            ("temperature", None if f.temperature is None else f"{f.temperature:.3g}"),
            (f"{none} below", None if f.threshold is None else f"{f.threshold:.3g}"),
            ("made", f.date),
        ]
    )
    return f"<footer>{shown}</footer>"
