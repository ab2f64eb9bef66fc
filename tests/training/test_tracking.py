"""TensorBoard: the curves, texts and pictures are in the event file, and right."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot import EpisodeSampler, EpisodeSpec, ImageSet, TrainConfig, fit
from fewshot.training.tracking.pictures import RIGHT, WRONG, draw_episode


@pytest.fixture
def events(toy_sets, small_protonet, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = TrainConfig(
        run_dir=str(tmp_path), max_steps=12, train_n_way=4, train_n_query=3, val_n_query=3, val_episodes=20,
        val_every_steps=4, checkpoint_every_steps=6, log_every_steps=2, precision="float32",
    )  # fmt: skip
    fit(small_protonet(), *toy_sets[:2], config)
    fit(small_protonet(), *toy_sets[:2], replace(config, resume=True))
    accumulator = EventAccumulator(os.path.join(tmp_path, "tensorboard"), size_guidance={"images": 0})
    accumulator.Reload()
    return accumulator


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_researcher_looks_for_is_there(events):
    tags = events.Tags()
    assert {
        "train/loss", "train/accuracy", "train/gradient_norm", "train/learning_rate", "train/episodes_per_second",
        "val/accuracy", "val/accuracy_low", "val/accuracy_high", "val/loss",
    } <= set(tags["scalars"])  # fmt: skip
    assert [e.step for e in events.Scalars("val/accuracy")] == [4, 8, 12]
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 4, 6, 8, 10, 12]
    for low, mean, high in zip(*(events.Scalars(f"val/accuracy{s}") for s in ("_low", "", "_high")), strict=True):
        assert low.value < mean.value < high.value
    assert events.Scalars("train/learning_rate")[0].value < 1e-3
    assert {"val_episodes/0", "val_episodes/1", "val_episodes/2"} <= set(tags["images"])
    assert {"config/text_summary", "run/text_summary"} <= set(tags["tensors"])
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| max_steps | `12` |" in text


def test_gallery_frames_right_and_wrong_answers():
    images = np.repeat(np.uint8([0, 255]), 4).reshape(8, 1, 1, 1) * np.ones((1, 1, 4, 4), np.uint8)
    sampler = EpisodeSampler(ImageSet(images, np.repeat([0, 1], 4), ["dark", "bright"]), EpisodeSpec(2, 1, 2))
    episode = sampler.images(sampler.batch(0, 1))
    logits = torch.nn.functional.one_hot(episode.query_labels, 2).float()
    logits[0, 0] = logits[0, 0].flip(0)  # the first query is taken for the other class
    picture = draw_episode(episode, logits, 0, ["dark", "bright"])
    cell, top, left = 62, 5, 28 + 12 + 62
    frame = [[tuple(picture[top + row * cell, left + column * cell]) for column in range(2)] for row in range(2)]
    assert frame == [[WRONG, RIGHT], [RIGHT, RIGHT]]
    first = int(episode.support[0, 0].max())  # the picture shows what the episode holds
    assert tuple(picture[30, 28 + 30]) == (first,) * 3
