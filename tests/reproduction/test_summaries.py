"""Many runs in one table: against numbers by hand, scipy, and the tables that reproduce makes of the same results."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from made_up import made_up_header
from scipy import stats

from fewshot import Records, commands
from fewshot.config import ExperimentConfig, PretrainExperimentConfig
from fewshot.errors import ConfigError, DataError, UnknownNameError
from fewshot.evaluation.records import EpisodeRecord
from fewshot.reproduction.summaries import format_summary, read_sources, summarize, write_summary
from fewshot.training.run_folder import RunFolder

RESULTS = Path(__file__).parents[2] / "results"


def make_run(folder: Path, accuracies: dict[str, list[float]], kind=ExperimentConfig, header=None, **options) -> str:
    """A finished run; `accuracies`: of the episodes of each record, by its row and shots, `trained 1`."""
    config = kind(**{"test_n_shot": [1], **options})
    run = RunFolder(folder)
    run.claim(config, resume=False)
    for name, values in accuracies.items():
        row, _, shot = name.rpartition(" ")
        spec = {"n_way": 5, "n_shot": int(shot), "n_query": 15}
        episodes = [EpisodeRecord(i, a, 0.1, 5, 5, 0, 0.0) for i, a in enumerate(values)]
        file = run.records("", row, f"5-way {shot}-shot")
        file.parent.mkdir(exist_ok=True)
        Records(made_up_header(len(values), spec=spec, **(header or {})), episodes).write(file)
    return str(folder)


def interval(values: list[float]) -> float:
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return (high - low) / 2


@pytest.fixture
def runs(tmp_path) -> list[str]:
    """Two learning rates, two seeds each, three episodes."""
    found = []
    for lr, by_seed in ((1e-3, ([0.2, 0.4, 0.6], [0.4, 0.8, 0.6])), (1e-4, ([0.1, 0.4, 0.4], [0.2, 0.7, 0.6]))):
        for seed, values in enumerate(by_seed):
            folder = tmp_path / "runs" / f"{lr}-{seed}"
            found.append(make_run(folder, {"trained 1": values, "untrained 1": [0.2] * 3}, lr=lr, seed=seed))
    return found


def test_means_have_an_interval_over_episodes_and_one_over_seeds(runs):
    summary = summarize(read_sources(runs))
    assert summary.options == ["lr"]
    assert [(line.title, line.seeds) for line in summary.lines] == [("lr 0.001", [0, 1]), ("lr 0.0001", [0, 1])]
    first, second = summary.lines
    both = first.estimate(("", "5w1s"))
    assert both.episodes == pytest.approx((0.5, interval([0.3, 0.6, 0.6])))  # of each episode the mean over seeds
    assert both.seeds == pytest.approx((0.5, interval([0.4, 0.6])))
    difference = second.minus(first, ("", "5w1s"))
    assert difference.episodes == pytest.approx((-0.1, interval([-0.15, -0.05, -0.1])))
    assert difference.seeds == pytest.approx((-0.1, 0))  # the same of both seeds


def test_a_folder_of_runs_and_the_line_that_others_are_compared_with(runs, tmp_path):
    summary = summarize(read_sources([str(tmp_path / "runs")]), against=f"{tmp_path / 'runs' / '0.001-1'}/")
    assert [line.title for line in summary.others] == ["lr 0.0001"]
    assert summarize(read_sources(runs), against="lr 0.0001").reference.title == "lr 0.0001"
    with pytest.raises(UnknownNameError, match=r"lr 0\.001"):
        summarize(read_sources(runs), against="lr 0.002")
    with pytest.raises(UnknownNameError, match="unknown cell of these runs '5w2s'"):
        summarize(read_sources(runs), cells=["5w2s"])


def test_one_seed_has_no_interval_over_seeds_and_other_seeds_none_of_differences(runs):
    summary = summarize(read_sources([runs[0], runs[1], runs[3]]))
    one = summary.lines[1]
    assert one.estimate(("", "5w1s")).seeds is None
    assert one.minus(summary.lines[0], ("", "5w1s")).seeds is None
    half = 100 * interval([0.2, 0.7, 0.6])
    assert f"| 1     | 50.00 ± {half:.2f} / – " in format_summary(summary, "markdown")


def test_other_episodes_are_not_compared_and_not_averaged(runs, tmp_path):
    other = make_run(tmp_path / "other", {"trained 1": [0.5] * 3}, lr=0.5, header={"seed": 9})
    summary = summarize(read_sources([*runs, other]))
    assert summary.lines[2].minus(summary.lines[0], ("", "5w1s")) is None
    mixed = make_run(tmp_path / "mixed", {"trained 1": [0.5] * 3}, lr=1e-3, seed=5, header={"data_fingerprint": "zzz"})
    with pytest.raises(DataError, match=r"lr 0.001, 5w1s: seed 5 was measured on other episodes, data_fingerprint"):
        summarize(read_sources([*runs, mixed]))


def test_rows_that_are_asked_stand_beside_a_runs_own(runs, tmp_path):
    variants = {"test_variants": {"few": {"temperature": 2.0}}}
    more = make_run(tmp_path / "more", {"trained 1": [0.5] * 3, "few 1": [0.7] * 3}, lr=1e-3, seed=7, **variants)
    titles = [line.title for line in summarize(read_sources([runs[0], more], ["untrained"])).lines]
    assert titles == ["all runs", "untrained", "few"]


def test_stage_one_of_each_seed_is_no_difference_and_kinds_may_be_mixed(tmp_path):
    stage = {"classifier-baseline 1": [0.3, 0.4, 0.5]}
    for seed in (0, 1):
        make_run(tmp_path / "runs" / f"one-seed{seed}", stage, PretrainExperimentConfig, seed=seed)
        options = {"seed": seed, "max_steps": 0, "pretrained_run": f"runs/x/one-seed{seed}"}
        make_run(tmp_path / "runs" / f"two-seed{seed}", {"trained 1": [0.4, 0.5, 0.6]}, **options)
    lines = summarize(read_sources([str(tmp_path / "runs")])).lines
    assert [line.seeds for line in lines] == [[0, 1], [0, 1]]
    assert lines[1].values["pretrained_run"] == "runs/x/one"
    assert (lines[0].values["method"], lines[0].values["classifier"]) == ("–", "linear")


def test_mistakes_are_named(runs, tmp_path):
    with pytest.raises(ConfigError, match=r"a run is named twice: .*0\.001-0"):
        read_sources([*runs, runs[0]])
    with pytest.raises(ConfigError, match=r"holds no run: there is no config\.json in it, or below it"):
        read_sources([str(tmp_path / "nothing")])
    copy = make_run(tmp_path / "copy", {"trained 1": [0.5] * 3}, lr=1e-3, seed=0)
    with pytest.raises(ConfigError, match=r"copy and a run before it are of the same configuration and seed"):
        summarize(read_sources([*runs, copy]))
    unfinished = make_run(tmp_path / "unfinished", {}, seed=0)
    with pytest.raises(DataError, match=r"unfinished has not been measured to its end: there is no .*trained"):
        read_sources([unfinished])
    with pytest.raises(ConfigError, match=r"table\.txt: .* to a file that ends in \.md, \.csv, \.tex"):
        write_summary(summarize(read_sources(runs)), tmp_path / "table.txt")


def test_formats_hold_the_same_numbers(runs, tmp_path, capsys):
    commands.execute("summarize", [*runs, "--out", str(tmp_path / "t.csv")])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert [row["lr"] for row in rows] == ["0.001", "0.0001"]
    assert float(rows[0]["half_width_95_seeds"]) == pytest.approx(100 * interval([0.4, 0.6]), abs=1e-4)
    assert (rows[1]["minus"], rows[1]["difference"]) == ("lr 0.001", "-10.0000")
    assert (rows[0]["n_seeds"], rows[0]["data"], rows[0]["episodes"]) == ("2", "abc", "3")
    capsys.readouterr()
    commands.execute("summarize", runs)
    markdown = capsys.readouterr().out
    mean, episodes, seeds = (float(rows[0][key]) for key in ("mean", "half_width_95_episodes", "half_width_95_seeds"))
    assert f"| {mean:.2f} ± {episodes:.2f} / ± {seeds:.2f} |" in markdown
    assert "over episodes / ± 95% Student-t interval over training seeds" in markdown
    commands.execute("summarize", [*runs, "--format", "latex"])
    latex = capsys.readouterr().out
    assert rf"0.001 & 0 1 & {mean:.2f} $\pm$ {episodes:.2f} / $\pm$ {seeds:.2f} \\" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2


def test_latex_escapes_what_options_say(tmp_path):
    found = [make_run(tmp_path / n, {"trained 1": [0.5, 0.6]}, backbone_options={"weights": n}) for n in ("a_b", "50%")]
    assert r"a\_b & 0" in (text := format_summary(summarize(read_sources(found)), "latex"))
    assert r"50\% & 0" in text


def test_stored_results_give_the_numbers_of_the_pages(capsys):
    """An independent path to the same numbers: the tables that reproduce makes."""
    folder = RESULTS / "omniglot"
    files = [str(path) for name in ("protonet", "r2d2") for path in sorted(folder.glob(f"{name}-seed*"))]
    commands.execute("summarize", [*files, "--cells", "5w1s", "20w5s"])
    table = capsys.readouterr().out
    page = (Path(__file__).parents[2] / "docs" / "results" / "omniglot.md").read_text(encoding="utf-8")
    for name in ("protonet", "r2d2"):
        first, _, _, last = re.search(rf"\n\| {name} +\|((?:[^|]+\|){{4}})", page)[1].strip("|").split("|")
        for cell in (first, last):
            assert cell.split("(")[0].strip() in table
