"""`fewshot confidence`: measures calibration and rejection on episodes with unknown classes."""

from typing import Any

from fewshot.backbones import create_backbone
from fewshot.config import ConfidenceConfig
from fewshot.datasets import load_dataset
from fewshot.estimator.open_set import measure_confidence
from fewshot.evaluation import report
from fewshot.evaluation.embed import embed
from fewshot.experiments.build import choose_device
from fewshot.methods import create_method
from fewshot.runtime.provenance import collect_provenance

COLUMNS = ("accuracy", "ece_before", "ece_after", "auroc", "false_accept", "false_reject")


def run(config: ConfidenceConfig) -> None:
    """Embed a data set once, and print how reliable the probabilities of each method are.

    Args:
        config: the options of the subcommand.
    """
    imageset = load_dataset(config.dataset, config.split, config.data_root, **config.dataset_options)
    backbone = create_backbone(config.backbone, imageset.image_shape[0], pretrained=True, **config.backbone_options)
    method = create_method("protonet", backbone).eval().to(choose_device())
    data = embed(method, imageset, precision=config.precision, store=True)
    names = ("n_way", "n_unknown", "n_shot", "n_query", "n_episodes", "seed", "false_accept_rate", "disjoint_groups")
    options: dict[str, Any] = {name: getattr(config, name) for name in names}
    print(f"| method | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}", flush=True)
    for name in config.methods:
        asked: dict[str, Any] = {
            "method": None if name == "baseline" else name,
            "method_options": config.method_options,
        }
        found = measure_confidence(data, **asked, **options)
        print(
            f"| {name} | {' | '.join(report.format_percent(getattr(found, column)) for column in COLUMNS)} |",
            flush=True,
        )
    print(f"\n{imageset}, {options}, data {imageset.fingerprint}, commit {collect_provenance()['commit']}")
