"""Benchmarks of time and memory, measured in the same run as other libraries that do the same."""

from pathlib import Path
from typing import Any

from fewshot.backbones import create_backbone
from fewshot.config import TrainConfig
from fewshot.config.reproduction import BenchmarkSection as Section
from fewshot.datasets import ImageSet, load_dataset
from fewshot.methods import Method, create_method
from fewshot.reproduction.benchmarks import arithmetic, data, depthwise, end_to_end, evaluation, process, reuse
from fewshot.runtime import seeding
from fewshot.sampling.episodes import EpisodeSpec

Numbers = dict[str, dict[str, Any]]


def measure(section: Section, dataset: str, n_episodes: int, n_easyfsl: int, script: Path, target: float) -> Numbers:
    """Measure one section; the numbers come by what was measured.

    Args:
        section: what to measure.
        dataset: name of the data set, which only some sections load.
        n_episodes: episodes that our evaluator is timed on.
        n_easyfsl: episodes that easyfsl's loop is timed on.
        script: the script whose start-up is timed; recipes lie beside it.
        target: the accuracy that training is timed to.
    """
    if section == "data":
        return _measure_data(load_dataset(dataset, "train"), load_dataset(dataset, "test"))
    if section == "evaluation":
        test_set = load_dataset(dataset, "test")
        speed = evaluation.measure_evaluation(_make_protonet(test_set), test_set, n_episodes, n_easyfsl)
        return {"evaluation, episodes/s": speed, "memory of evaluation": process.measure_evaluation_memory(dataset)}
    if section == "frozen":
        test_set = load_dataset(dataset, "test")
        rows = evaluation.measure_frozen_methods(_make_protonet(test_set), test_set, n_episodes)
        return {f"{n_episodes} episodes, {name}": values for name, values in rows.items()}
    if section == "heads":
        return _measure_heads()
    if section == "maml":
        return _measure_maml()
    if section == "memory":
        return {f"memory kept, {name}": reuse.measure_reuse(name) for name in reuse.STEPS}
    if section == "precision":
        return arithmetic.measure_precisions()
    if section == "depthwise":
        return {"EfficientNet-Lite0, training step of 32 images": depthwise.measure_depthwise()}
    if section == "process":
        return {"start-up": process.measure_start_up(script)}
    if section == "photographs":
        return _measure_photographs()
    if section == "tensorboard":
        from fewshot.reproduction.benchmarks.tensorboard import measure_tensorboard

        recipe = script.parent / "recipes" / "glyphs" / "protonet.yaml"
        return {"TensorBoard of glyphs/protonet": measure_tensorboard(recipe)}
    if section == "export":
        from fewshot.reproduction.benchmarks.exported import measure_all  # onnxruntime is not everybody's

        return measure_all()
    recipe = script.parent / "recipes" / dataset / "protonet.yaml"
    return {
        f"ProtoNet to {100 * target:g}% validation 5-way 1-shot": end_to_end.measure_time_to_accuracy(recipe, target)
    }


def _make_protonet(images: ImageSet) -> Method:
    with seeding.fork(0):
        return create_method("protonet", create_backbone("conv4", *images.image_shape[:2]))


def _measure_data(train_set: ImageSet, test_set: ImageSet) -> Numbers:
    method, wide = _make_protonet(train_set), TrainConfig(train_n_way=60)
    augmented = TrainConfig(train_n_way=60, augmentation={"rotation_degrees": 10.0, "scale": 0.1})
    return {
        "drawing, 5-way 1-shot": {"episodes/s": data.measure_drawing(test_set, EpisodeSpec(5, 1, 15))},
        "data path, 60-way": data.measure_data_path(method, train_set, wide, "auto"),
        "data path, 60-way, augmented": data.measure_data_path(method, train_set, augmented, "auto"),
    }


def _measure_heads() -> Numbers:
    from fewshot.reproduction.benchmarks import heads  # imported here, since it needs scikit-learn

    return {
        "Baseline, the authors' SGD, 5w5s": heads.measure_faithful_sgd(),
        "logistic regression, 5w1s": heads.measure_logistic(1),
        "logistic regression, 5w5s": heads.measure_logistic(5),
    }


def _measure_photographs() -> Numbers:
    from fewshot.reproduction.benchmarks.estimator import measure_estimator, measure_trust

    lite0 = {"backbone": "efficientnet-lite0"}
    return {
        "estimator, efficientnet-lite0, 224 px": measure_estimator(**lite0),
        "estimator, 224 px, what thresholds, suspects and sets add": measure_trust(**lite0),
        "estimator, 160 px, circle found, 8 turns": measure_estimator(
            **lite0, size_px=160, rotation_invariant=True, find_circle=True
        ),
        "estimator, 128 px, circle found, 24 turns, aligned": measure_estimator(
            **lite0, size_px=128, rotation_invariant=24, find_circle=True, method="aligned", views={"rings": "blocks.3"}
        ),
        "estimator, 112 px, finetune, full, 15 steps": measure_estimator(
            **lite0,
            size_px=112,
            method="finetune",
            method_options={"mode": "full", "steps": 15},
            precision="float32",
            calibrate=False,
        ),  # calibration would fine-tune once more for each group
    }


def _measure_maml() -> Numbers:
    from fewshot.reproduction.benchmarks import maml

    numbers = {
        f"MAML, {backbone}, inner steps: {steps}; s": maml.measure_speed(steps, backbone)
        for backbone in ("conv4", "conv4-strided")
        for steps in (1, 5)
    }
    return numbers | {"MAML, conv4, inner steps: 5; peak MiB": maml.measure_memory(5)}
