"""Data of one's own: the data folder of a run in its evaluation, and advice for too small batches or classes."""

import pytest

from fewshot.config import EvaluateConfig, ExperimentConfig, PretrainConfig
from fewshot.errors import ConfigError, EpisodeError
from fewshot.sampling.episodes import EpisodeSampler, EpisodeSpec


def test_evaluation_looks_where_the_run_had_its_data(tmp_path):
    run = ExperimentConfig(dataset="folder", data_root=str(tmp_path))
    assert EvaluateConfig(run_dir="r").applied_to(run).data_root == str(tmp_path)
    assert EvaluateConfig(run_dir="r", data_root="elsewhere").applied_to(run).data_root == "elsewhere"
    assert EvaluateConfig(run_dir="r", dataset="glyphs").applied_to(run).data_root is None  # of another data set
    gone = ExperimentConfig(dataset="folder", data_root=str(tmp_path / "gone"))
    assert EvaluateConfig(run_dir="r").applied_to(gone).data_root is None


def test_a_batch_of_one_is_refused():
    with pytest.raises(ConfigError, match="batch_size=1 has 1 image at a time"):
        PretrainConfig(batch_size=1)


def test_classes_with_too_few_images_get_advice_that_can_be_followed(toy_sets):
    with pytest.raises(EpisodeError, match=r"Ask for fewer .*remove their images, or in Python"):
        EpisodeSampler(toy_sets[2], EpisodeSpec(5, 1, 15), 0)
