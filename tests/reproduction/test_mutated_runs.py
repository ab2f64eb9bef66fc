"""Three hundred mutations of each file of a run: the right value comes out, or one sentence."""

import dataclasses
import json
import random
import struct
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up import made_up_header
from mutations import change_value, mutate_json, spoil_text

from fewshot import Records, cli
from fewshot.config import ExperimentConfig, as_dict
from fewshot.config.recipes import read_recipe
from fewshot.errors import FewShotError
from fewshot.evaluation.records import EpisodeRecord
from fewshot.experiments.build import build_method
from fewshot.experiments.starting import find_selected_on
from fewshot.reproduction.results import Result
from fewshot.reproduction.summaries import format_summary, read_sources, summarize
from fewshot.runtime.checkpoint import FORMAT, load_checkpoint, refusing_foreign, save_checkpoint
from fewshot.training.learner import Learner
from fewshot.training.run_folder import RunFolder

N = 300
CONFIG = ExperimentConfig(test_n_shot=[1], test_floor=False, max_steps=4, backbone_options={"n_filters": 4})


def collect(files: Iterable[bytes], path: Path, read: Callable[[], Any], place: str = "") -> tuple[int, list[str]]:
    """Read each of the files at `path`: how many were read, and the sentences that refuse the others."""
    n_read, sentences = 0, []
    for content in files:
        path.write_bytes(content)
        try:
            read()
        except FewShotError as error:
            sentences.append(str(error))
        except SystemExit:  # the parser has said why
            sentences.append(str(place or path))
        else:
            n_read += 1
    unclear = [text for text in sentences if "\n" in text or len(text) > 1000 or (place or str(path)) not in text]
    assert unclear == []
    return n_read, sentences


def make_run(folder: Path) -> RunFolder:
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run._write_config(CONFIG)
    episodes = [EpisodeRecord(i, i / 75, 1.0, 5, 5, 0, 0.1) for i in range(3)]
    records = Records(made_up_header(3), episodes)
    records.write(run.records("", "trained", "5-way 1-shot"))
    return run


def test_configurations_of_runs(tmp_path: Path):
    run = make_run(tmp_path / "run")

    def read() -> None:
        config = run.load_config()
        assert type(config)(**{k: v for k, v in as_dict(config).items() if k != "kind"}) == config
        find_selected_on(run.path)
        format_summary(summarize(read_sources([str(run.path)])), "markdown")

    n_read, sentences = collect(mutate_json(as_dict(CONFIG), 0, N), run.config, read, str(run.path))
    assert n_read > 20
    assert len(sentences) > 150


def test_recipes(tmp_path: Path, capsys: pytest.CaptureFixture):
    options = {
        "kind": "episodic", "row": "maml", "run_dir": "runs/toy/x", "dataset": "glyphs", "method": "maml", "lr": 0.001,
        "method_options": {"inner_lr": 0.1}, "test_cells": [{"n_way": 5, "n_shot": [1, 5]}, {"n_way": 5, "n_shot": 10}],
        "rows": {"simpleshot": {}, "near": {"method": "simpleshot", "method_options": {"centre": True}}},
        "networks": {"resnet12": {"backbone": "resnet12"}},
    }  # fmt: skip
    path, draw = tmp_path / "recipe.yaml", random.Random(0)
    text = yaml.safe_dump(options, sort_keys=False)

    def change() -> bytes:
        return yaml.dump(change_value(options, draw), sort_keys=False, allow_unicode=True).encode(
            "utf-8", "surrogatepass"
        )

    files = [spoil_text(text, draw) if i % 3 == 0 else change() for i in range(N // 6)]

    def read() -> None:
        for entry in read_recipe(path).entries:
            assert isinstance(entry.options, dict)

    n_read, sentences = collect(files, path, read)
    assert n_read > 5
    assert len(sentences) > 10

    def parse() -> None:
        assert isinstance(cli.parse(ExperimentConfig, "", ["--config", str(path)]), ExperimentConfig)

    collect(files[:3], path, parse)  # these take long


def test_records(tmp_path: Path):
    run = make_run(tmp_path / "run")
    path = run.records("", "trained", "5-way 1-shot")
    header, *rows = map(json.loads, path.read_text().splitlines())
    draw, files = random.Random(0), []
    for i in range(N):
        lines = [header, *rows]
        line = draw.choice([0, 0, 1, 2])
        lines[line] = change_value(lines[line], draw)
        text = "".join(json.dumps(content) + "\n" for content in lines)
        files.append(spoil_text(path.read_text(), draw) if i % 3 == 0 else text.encode())

    def read() -> None:
        records = Records.read(path)
        assert 0 <= records.mean <= 1
        assert records.loss == records.loss
        format_summary(summarize(read_sources([str(run.path)])), "markdown")

    n_read, sentences = collect(files, path, read, str(run.path))
    assert n_read > 20
    assert len(sentences) > 150


def test_results(tmp_path: Path):
    path = tmp_path / "result.json"
    records = Records.read(make_run(tmp_path / "run").records("", "trained", "5-way 1-shot"))
    facts = {"config": as_dict(CONFIG), "stages": [{"minutes": 1.0, "steps": 4}], "history": [[4, 1.0, 0.5, 0.1]]}
    Result("prototypical", 0, facts, {"trained": [records]}).write(path)

    def read() -> None:
        result = Result.read(path)
        assert all(0 <= measured.mean <= 1 for cells in result.records.values() for measured in cells)
        format_summary(summarize(read_sources([str(path)])), "markdown")

    n_read, sentences = collect(mutate_json(json.loads(path.read_text()), 0, N), path, read)
    assert n_read > 20
    assert len(sentences) > 150


@pytest.mark.parametrize("averaged", [0.0, 0.9])
def test_checkpoints_of_trainings(tmp_path: Path, averaged: float):
    path, draw, files = tmp_path / "last.safetensors", random.Random(0), []
    config = dataclasses.replace(CONFIG, average_decay=averaged)

    def make() -> Learner:
        return Learner(build_method(CONFIG, (1, 28, 28)), config)

    def step(learner: Learner) -> None:
        learner.backward(sum(parameter.square().sum() for parameter in learner.method.parameters()))
        learner.update()

    learner = make()
    step(learner)
    learner.history = [[1, 0.1, 0.5, 0.1]]
    save_checkpoint(path, learner.state())
    data = path.read_bytes()
    n = struct.unpack_from("<Q", data)[0]
    header, body = json.loads(data[8 : 8 + n]), data[8 + n :]
    state = json.loads(header["__metadata__"]["state"])
    names = [name for name in header if name != "__metadata__"]
    for i in range(N // 3):
        text = json.dumps(change_value(state, draw))
        tensors = {name: header[name] for name in names}
        if i % 3 == 0:
            tensors = change_value(tensors, draw)
            text = json.dumps(state)
        elif i % 3 == 1:
            text = spoil_text(json.dumps(state), draw).decode("utf-8", "replace")
        packed = json.dumps({"__metadata__": {"format": FORMAT, "state": text}, **tensors}).encode()
        files.append(struct.pack("<Q", len(packed)) + packed + body)

    def read() -> None:
        with refusing_foreign(path, "run"):
            fresh = make()
            fresh.restore(load_checkpoint(path))
        step(fresh)
        assert fresh.step < 10
        assert fresh.best_step < 10
        save_checkpoint(tmp_path / "next.safetensors", fresh.state())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        n_read, sentences = collect(files, path, read)
    assert n_read > 2
    assert len(sentences) > 50
