"""What the code costs: time and memory, measured side by side in one run."""

import contextlib
import copy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from fewshot.config import TrainConfig
from fewshot.datasets import ImageSet
from fewshot.episodes import EpisodeSampler, EpisodeSpec
from fewshot.evaluate import evaluate
from fewshot.memory_format import channels_last
from fewshot.methods import Method
from fewshot.optimization import make_optimizer
from fewshot.precision import Precision, autocast
from fewshot.stream import EpisodeStream

# VmHWM, since ru_maxrss of a child begins at its parent's
PEAK = "print('peak', [l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')][0])"


def median_seconds(run: Callable[[], object], repeats: int, warmup: int = 1) -> float:
    """Median wall time of `run`."""
    seconds = []
    for _ in range(warmup + repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[warmup:])


def episodes_per_second(imageset: ImageSet, spec: EpisodeSpec) -> float:
    """Index episodes drawn per second, in batches of 1,000, on one core (numpy)."""
    sampler = EpisodeSampler(imageset, spec)
    return 1000 / median_seconds(lambda: sampler.batch(0, 1000), 10)


def data_path(method: Method, train_set: ImageSet, config: TrainConfig, precision: Precision) -> dict[str, float]:
    """Milliseconds of the data path (draw, gather, augment, normalise) and of a whole training step."""
    device = next(method.parameters()).device
    stream, optimizer = EpisodeStream(train_set, config, device), make_optimizer(method, config)

    def data() -> None:
        for episode in stream.passes(0):
            method.backbone.prepare(torch.cat([episode.support, episode.query], 1).flatten(0, 1))

    def step() -> None:
        for episode in stream.passes(0):
            with autocast(precision, device):
                loss = method.loss(episode)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    with channels_last(method):  # as `fit` trains
        data_ms, step_ms = 1000 * median_seconds(data, 15), 1000 * median_seconds(step, 15, warmup=3)
    return {"data_ms": data_ms, "step_ms": step_ms, "share": data_ms / step_ms}


def evaluation(method: Method, test_set: ImageSet, n_ours: int, n_theirs: int) -> dict[str, float]:
    """Episodes per second of our evaluator, embedding included, and of easyfsl's own sampler and loop.

    easyfsl is timed on the same weights in plain layers, as its users write a Conv-4, and also on our
    backbone, which is faster (channels-last, batch normalisation folded).
    """
    spec = EpisodeSpec(5, 1, 15)
    ours = n_ours / median_seconds(lambda: evaluate(method, test_set, spec, n_ours, precision="auto"), 3)
    mean = evaluate(method, test_set, spec, n_theirs, precision="auto").mean
    easyfsl_evaluation(method.backbone, test_set, spec, 10)  # warm-up
    theirs, their_mean = easyfsl_evaluation(plain_layers(method.backbone), test_set, spec, n_theirs)
    with channels_last(method):
        with_ours, _ = easyfsl_evaluation(method.backbone, test_set, spec, n_theirs)
    return {
        "ours": ours, "easyfsl": theirs, "ratio": ours / theirs, "easyfsl, our backbone": with_ours,
        "ratio, our backbone": ours / with_ours, "accuracy": mean, "easyfsl_accuracy": their_mean,
    }  # fmt: skip


def plain_layers(backbone: nn.Module) -> nn.Module:
    """The layers of a `ConvNet` backbone one after the other, in contiguous memory format."""
    layers = [layer for block in copy.deepcopy(backbone.body).blocks for layer in block]
    return nn.Sequential(*layers, nn.Flatten()).to(memory_format=torch.contiguous_format)


def easyfsl_evaluation(
    backbone: nn.Module, test_set: ImageSet, spec: EpisodeSpec, n_episodes: int
) -> tuple[float, float]:
    """Episodes per second and accuracy of easyfsl 1.5.0's TaskSampler and evaluate on the same network and images."""
    from easyfsl.methods import PrototypicalNetworks
    from easyfsl.samplers import TaskSampler
    from easyfsl.utils import evaluate as easyfsl_evaluate

    images = _Items(test_set)
    with _lenient_sampler():
        sampler = TaskSampler(images, spec.n_way, spec.n_shot, spec.n_query, n_episodes)
        loader = DataLoader(images, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    classifier = PrototypicalNetworks(backbone.eval()).eval()
    started = time.perf_counter()
    accuracy = easyfsl_evaluate(classifier, loader, device="cpu", use_tqdm=False)
    return n_episodes / (time.perf_counter() - started), accuracy


class _Items(Dataset):
    """An image set as easyfsl wants it: float images one by one, and all labels in a list."""

    def __init__(self, imageset: ImageSet) -> None:
        self.imageset = imageset

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.imageset.gather(torch.tensor(row)).float() / 255, int(self.imageset.labels[row])

    def __len__(self) -> int:
        return len(self.imageset)

    def get_labels(self) -> list[int]:
        return self.imageset.labels.tolist()


@contextlib.contextmanager
def _lenient_sampler() -> Iterator[None]:
    """Torch's Sampler takes no argument any more; easyfsl 1.5.0 still gives it one."""
    initial = Sampler.__init__
    Sampler.__init__ = lambda self, *arguments, **options: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Sampler.__init__ = initial  # type: ignore[method-assign]


def process_seconds(command: list[str], repeats: int = 5) -> float:
    """Median wall time of a whole process."""
    return median_seconds(lambda: subprocess.run(command, check=True, capture_output=True), repeats)


def peak_mib(code: str) -> float:
    """Peak resident memory of a Python process that runs `code`, MiB."""
    output = subprocess.run(
        [sys.executable, "-c", f"{code}\n{PEAK}"], check=True, capture_output=True, text=True
    ).stdout
    return float(output.split("peak")[-1]) / 1024


def start_up(script: Path) -> dict[str, float]:
    """Seconds of a script's --help and of `import torch`."""
    helps = process_seconds([sys.executable, str(script), "--help"])
    imports = process_seconds([sys.executable, "-c", "import torch"])
    return {"help_s": helps, "import_torch_s": imports, "ratio": helps / imports}


def evaluation_memory(dataset: str) -> dict[str, float]:
    """Peak MiB of evaluating a data set's test split, above a process that only imports the libraries."""
    base = peak_mib("import torch, torchvision, timm")
    whole = peak_mib(
        "import torch, torchvision, timm, fewshot\n"
        f"imageset = fewshot.load_dataset({dataset!r}, 'test')\n"
        "backbone = fewshot.create_backbone('conv4', *imageset.image_shape[:2])\n"
        "method = fewshot.create_method('protonet', backbone)\n"
        "print(fewshot.evaluate(method, imageset, fewshot.EpisodeSpec(), 10_000).mean)"
    )
    return {"imports_mib": base, "evaluation_mib": whole, "above_mib": whole - base}
