"""Options of the commands that measure finished runs."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fewshot.config.experiments import SetupConfig
from fewshot.config.training import Count, check_counts
from fewshot.errors import ConfigError
from fewshot.runtime.choices import Precision

Setup = TypeVar("Setup", bound=SetupConfig)


@dataclass(kw_only=True)
class MeasureConfig:
    """The data set and episodes on which a run is measured."""

    dataset: str | None = None
    """name of a data set (default: the run's own, with its options)"""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    """options of the data set; for the run's own data set, added to the options of the run"""
    data_root: str | None = None
    """folder that holds the data sets (default: the run's if it is there, else FEWSHOT_DATA, else data/raw)"""
    split: str = "test"
    """split of the data set"""
    n_way: Count = 5
    """classes of an episode, a number or a range [low, high]"""
    n_shot: Count = 1
    """support images of each class, a number or a range [low, high]"""
    n_query: Count = 15
    """query images of each class, a number or a range [low, high]"""
    disjoint_groups: bool = False
    """no group (photograph, writer, specimen) has images in both support and query of an episode"""
    n_episodes: int = 1000
    """episodes"""
    seed: int = 0
    """seed of the episodes: the same seed, the same episodes for every run"""
    precision: Precision = "auto"
    """auto: bfloat16 if the hardware multiplies it (GPUs; CPUs with AMX or AVX512-BF16), else float32; tf32: of GPUs"""
    allow_seen_classes: bool = False
    """measure although classes or images of the test set were trained on; tables then mark the row"""
    plugins: list[str] = field(default_factory=list)
    """further Python files or modules that register methods, data sets or backbones, besides those of the run"""

    def __post_init__(self) -> None:
        check_counts(self)
        if self.n_episodes < 1:
            raise ConfigError(f"n_episodes must be at least 1, got {self.n_episodes}")

    def applied_to(self, run: Setup) -> Setup:
        """Replace the data set of a run by this one; the run's data set options stay if the data set is the same."""
        own, options = run.dataset, run.dataset_options
        if self.split == "test" and run.test_dataset:
            own, options = run.test_dataset, run.test_dataset_options
        is_own = self.dataset in (None, own)
        runs_root = run.data_root if is_own and run.data_root and Path(run.data_root).is_dir() else None
        return replace(
            run,
            plugins=list(dict.fromkeys([*run.plugins, *self.plugins])),
            data_root=self.data_root or runs_root,
            dataset=self.dataset or own,
            dataset_options={**(options if is_own else {}), **self.dataset_options},
            test_dataset=None,
            test_dataset_options={},
        )


@dataclass
class EvaluateConfig(MeasureConfig):
    """Measure a finished run on episodes."""

    run_dir: str
    """folder of a finished run"""
    method_options: dict[str, Any] = field(default_factory=dict)
    """options of the method that replace the run's, such as inner_steps or transductive; the weights stay the same"""
    base_images: int = 0
    """draw so many images that the run's held_out_images kept out of training for each episode, and ask the network for
    their classes before and after the episode has adapted it (0: do not ask)"""
    json: str | None = None
    """file for the records (default: in the run folder)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base_images < 0:
            raise ConfigError(f"base_images must not be negative, got {self.base_images}")


@dataclass
class CompareConfig(MeasureConfig):
    """Measure two runs on the same episodes, or two classifiers on the same photographs."""

    run_a: str
    """folder of a finished run; with photos, the old classifier: a .fewshot file or a folder that export wrote"""
    run_b: str
    """folder of the other run; with photos, the new classifier"""
    photos: str | None = None
    """folder of photographs, one folder a class, that two classifiers are asked about"""
    groups: str | None = None
    """of photos: images of one photograph, specimen or video, as for fit"""
    out: str | None = None
    """folder for tables and figure (default: compare/A-vs-B in the folder of the first run)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_episodes < 2:
            raise ConfigError(f"a comparison needs at least 2 episodes, got n_episodes={self.n_episodes}")
