"""Validation: the episodes on which a run's weights are selected, and checks that these are not test data."""

import logging

import torch

from fewshot.config import TrainingOptions
from fewshot.datasets import ImageSet
from fewshot.errors import LeakageError
from fewshot.evaluation.embed import device_of, embed_frozen
from fewshot.evaluation.evaluate import Watch, evaluate
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.evaluation.records import Records
from fewshot.images.listing import list_few
from fewshot.methods import Method
from fewshot.runtime import seeding
from fewshot.runtime.counts import format_count
from fewshot.runtime.precision import autocast
from fewshot.sampling.episodes import EpisodeSampler, EpisodeSpec
from fewshot.training.leakage import ADVICE, TrainingSet, find_overlap
from fewshot.training.tracking import AnswersWatch, Tracker, project

GALLERY_EPISODES = 2
logger = logging.getLogger(__name__)


class Validation:
    """The validation episodes of a run, which are the same at each validation."""

    def __init__(self, val_set: ImageSet, config: TrainingOptions) -> None:
        self.val_set, self.config = val_set, config
        self.gallery_step = 0  # of the last pictures
        self.spec = EpisodeSpec(config.val_n_way, config.val_n_shot, config.val_n_query)
        self.seed = seeding.derive(config.seed, "validation episodes")
        self.sampler = EpisodeSampler(val_set, self.spec, self.seed)
        self.data: ImageSet | FeatureSet = val_set  # replaced by its features if the backbone is frozen

    def evaluate(self, method: Method, watch: Watch | None = None) -> Records:
        """Evaluate `method` on them; `watch`: see `evaluate`."""
        config, precision = self.config, self.config.precision
        if self.data is self.val_set:
            self.data = embed_frozen(method, self.val_set, precision)
        return evaluate(method, self.data, self.spec, config.val_episodes, self.seed, precision=precision, watch=watch)

    def report(self, method: Method, tracker: Tracker, step: int) -> Records:
        """Evaluate `method` and, if this run is tracked, write what TensorBoard shows of its answers."""
        if not self.config.run_dir:
            return self.evaluate(method)
        self._draw_gallery(method, tracker, step)
        watch = AnswersWatch(self.sampler, self.val_set.n_classes)
        records = self.evaluate(method, watch)
        tracker.write_answers(step, records, watch.gather(), self.val_set, self.sampler)
        project(tracker.folder.tensorboard, "validation classes", method, self.val_set, self.config.precision)
        return records

    def write_gallery(self, method: Method, tracker: Tracker, step: int) -> None:
        """If this run is tracked, write pictures of the first validation episodes and of the answers of `method`.

        Nothing is written before twice the step of the last pictures, since one takes up to half a megabyte.
        """
        if step >= 2 * self.gallery_step:
            self._draw_gallery(method, tracker, step)

    @torch.no_grad()
    def _draw_gallery(self, method: Method, tracker: Tracker, step: int) -> None:
        if not tracker.writer:
            return
        self.gallery_step = step
        device = device_of(method)
        episode = self.sampler.batch(0, GALLERY_EPISODES).fill(self.val_set).to(device)
        with autocast(self.config.precision, device):
            logits = method.eval().classify(episode)
        tracker.write_gallery(step, self.val_set, episode, logits)


def refuse_leaks(train_set: ImageSet, val_set: ImageSet | None, allow_seen_classes: bool = False) -> None:
    """Raise `LeakageError` for a test split, and if validation classes or images are among those of training.

    The latter is only a warning with `allow_seen_classes`, or for the few images that a published data set holds twice.
    """
    for role, imageset in (("train", train_set), ("validate", val_set)):
        if imageset is not None and imageset.split == "test":
            raise LeakageError(f"{imageset} is a test split: it cannot be used to {role}")
    if val_set is None:
        return
    overlap = find_overlap([TrainingSet.of(train_set)], val_set)
    if overlap.classes:
        count = format_count(len(overlap.classes), "class", "classes")
        found = f"'train' and 'val' overlap in {count}: {list_few(overlap.classes)}"
    else:
        found = f"this run is {overlap.describe(val_set)}"
    if overlap.is_leak and not allow_seen_classes:
        raise LeakageError(f"{found}; {ADVICE}")
    if overlap.is_leak or overlap.n_seen_images:
        logger.warning("%s", found)
