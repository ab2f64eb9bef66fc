"""The measurements on a GPU, tried on toy sizes; their table by hand."""

import json
from pathlib import Path

import pytest
import torch

from fewshot import commands
from fewshot.errors import ConfigError
from fewshot.reproduction.benchmarks import maml
from fewshot.reproduction.benchmarks.gpu import runner, table, tests

ROOT = Path(__file__).parents[2]


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["fewshot", "benchmark", "--suite", "gpu", *arguments])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    return ended.value.code


def check_arithmetic(step):
    """Two classes of a support and a query image, 28 px: forward, and back to weights and inputs."""
    convolutions = 9 * 64 * (1 * 28**2 + 64 * (14**2 + 7**2 + 3**2))
    first = 9 * 64 * 28**2  # no gradient of the images is taken
    distances = 3 * 2 * (2 * 2 * 64)
    expected = 4 * 2 * (3 * convolutions - first)
    assert step["tflops"] * step["step_ms"] * 1e9 == pytest.approx(expected, abs=2 * distances)


@pytest.mark.parametrize("part", runner.PARTS)
def test_every_part_has_its_numbers_in_toy_sizes(part, tmp_path):
    runner.run_part(part, tmp_path, dry=True)
    numbers = json.loads((tmp_path / f"{part}.json").read_text())
    assert set(runner.PARTS[part].keys) <= numbers.keys()
    assert "failed" not in numbers
    if part == "steps":
        check_arithmetic(numbers["ProtoNet, Conv-4, 60-way 1-shot, 28 px"])
        assert "Self CPU" in (tmp_path / "profile.txt").read_text()
    text = table.OTHERS.get(part, ("", ""))[1]
    if part == "training":
        numbers["eager"]["gpu_busy"] = 0.5  # a CPU has none
    assert "{" not in text.format(**numbers)


def test_numbers_are_kept_part_by_part_and_a_failure_is_named(tmp_path, monkeypatch, capsys):
    part = runner.PARTS["heads"]
    monkeypatch.setitem(runner.PARTS, "heads", runner.Part(part.measure, 0.01, part.keys))
    assert runner.measure(tmp_path, ["heads"], dry=False) == ["heads: not done after 0.01 s"]
    assert json.loads((tmp_path / runner.RESULT).read_text())["heads"]["failed"] == "not done after 0.01 s"
    arguments = ("--out", str(tmp_path), "--dry", "true", "--parts", "[device]")
    assert run(monkeypatch, *arguments) == 0
    kept = json.loads((tmp_path / runner.RESULT).read_text())
    assert kept["device"]["name"] == "CPU"
    assert kept["dry"] is True
    (tmp_path / "device.json").mkdir()  # so it cannot write its numbers
    assert "device: IsADirectoryError" in str(run(monkeypatch, *arguments))
    assert "in run_part" in (tmp_path / "device.txt").read_text()


def test_a_part_without_one_of_its_numbers_has_failed(tmp_path, monkeypatch):
    monkeypatch.setitem(runner.PARTS, "device", runner.Part(lambda *_: {"name": "CPU"}, 1, ("name", "torch")))
    with pytest.raises(KeyError, match="the part device has no number for torch"):
        runner.run_part("device", tmp_path, dry=True)


def test_an_unknown_part_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="speed are not among device, tests"):
        runner.measure(tmp_path, ["device", "speed"], dry=True)


def test_failed_tests_are_counted_and_named(tmp_path):
    report = tmp_path / "tests.xml"
    cases = '<testcase name="a"/><testcase name="b"><failure/></testcase><testcase name="c"><skipped/></testcase>'
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    numbers = tests.count_tests(report)
    assert (numbers["n_passed"], numbers["n_failed"], numbers["n_skipped"]) == (1, 1, 1)
    assert numbers["failures"] == ["b"]
    assert numbers["failed"].startswith("1 of 3 tests failed")
    report.write_text('<testsuite><testcase name="c"><skipped/></testcase></testsuite>')
    assert "1 were skipped" in tests.count_tests(report)["failed"]


def test_what_was_not_run_says_so_and_a_card_is_named(tmp_path):
    assert table.format_records(tmp_path) == "On no GPU: not run."
    record = {
        "commit": "0123456789ab", "date": "2026-01-02", "device": {"name": "Card", "torch": "2.11", "python": "3.12"},
        "steps": {"a step": {"step_ms": 2.0, "images_per_s": 12345.0}, "seconds": 3.0},
        "maml": {"failed": "no memory"},
        "heads": {"Baseline, the authors' SGD": {"ours_ms": 0.5}, "logistic regression": {"ours_ms": 1.0}},
    }  # fmt: skip
    (tmp_path / "card.json").write_text(json.dumps(record))
    text = table.format_records(tmp_path)
    assert text.startswith("**Card**, torch 2.11, Python 3.12, commit 0123456, 2026-01-02.")
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines()
            if line.startswith("|")}  # fmt: skip
    assert rows["a step"] == ["2.0", "not run", "12,345", "not run", "not run", "not run"]
    assert rows["tests marked `gpu`"] == ["not run"]
    assert rows["second-order MAML, 32 tasks, 5-way 1-shot, against the faster loop over the tasks"] == [
        "failed: no memory"
    ]
    assert rows["heads fitted to an episode, 5-way 5-shot, ms"] == ["Baseline's SGD 0.50, softmax regression 1.00"]


def test_the_page_holds_the_table_that_the_records_make():
    text = table.format_records(ROOT / "results" / "gpu")
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert f"<!-- gpu: begin -->\n{text}\n<!-- gpu: end -->" in page


def test_the_plain_loop_takes_the_same_meta_gradient():
    episode = maml.draw_omniglot_noise()
    few = type(episode)(*(x[:2] if isinstance(x, torch.Tensor) else x for x in vars(episode).values()))
    method = maml.make_method("maml", 2, adapt_norm=True, transductive=True, inner_lr=0.01).double()
    loop, network = maml.make_plain_loop(method, 2)
    theirs = loop(few)
    ours = method.loss(few)
    ours.backward()
    torch.testing.assert_close(ours.detach(), theirs, rtol=1e-9, atol=0)
    weights = dict(network.named_parameters())
    for name, p in [*method.backbone.named_parameters(prefix="0"), *method.classifier.named_parameters(prefix="1")]:
        torch.testing.assert_close(p.grad, weights[name].grad, rtol=1e-6, atol=1e-8, msg=name)
