"""Measures start-up time and memory of whole processes."""

import sys
from pathlib import Path

from fewshot.reproduction.benchmarks.timing import measure_peak_mib, measure_process_seconds


def measure_start_up(script: Path) -> dict[str, float]:
    """Measure the seconds of a script's --help and of `import torch`."""
    helps = measure_process_seconds([sys.executable, str(script), "--help"])
    imports = measure_process_seconds([sys.executable, "-c", "import torch"])
    return {"help_s": helps, "import_torch_s": imports, "ratio": helps / imports}


def measure_evaluation_memory(dataset: str) -> dict[str, float]:
    """Peak MiB of evaluating a data set's test split, above a process that only imports the libraries."""
    base = measure_peak_mib("import torch, torchvision, timm")
    whole = measure_peak_mib(
        "import torch, torchvision, timm, fewshot\n"
        f"imageset = fewshot.load_dataset({dataset!r}, 'test')\n"
        "backbone = fewshot.create_backbone('conv4', *imageset.image_shape[:2])\n"
        "method = fewshot.create_method('protonet', backbone)\n"
        "print(fewshot.evaluate(method, imageset, fewshot.EpisodeSpec(), 10_000).mean)"
    )
    return {"imports_mib": base, "evaluation_mib": whole, "above_mib": whole - base}
