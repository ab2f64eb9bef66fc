"""Measure time and memory of training, evaluation and heads on a GPU; numbers are written after each part.

With `--dry true` the same parts run on the CPU with toy sizes, as a test.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from fewshot import cli
from fewshot.errors import ConfigError
from fewshot.reproduction.benchmarks import gpu


@dataclass
class GpuConfig:
    """Which parts to measure."""

    out: str = "gpu"
    """folder for gpu.json and the profile"""
    parts: list[str] = field(default_factory=lambda: list(gpu.PARTS))
    """these parts only"""
    dry: bool = False
    """toy sizes on the CPU"""


def main() -> None:
    """Measure the parts; exit status 1 if a part failed."""
    config = cli.parse(GpuConfig, __doc__)
    unknown = [part for part in config.parts if part not in gpu.PARTS]
    if unknown:
        raise ConfigError(f"parts: {', '.join(unknown)} are not among {', '.join(gpu.PARTS)}")
    failures = gpu.measure(Path(config.out), config.parts, config.dry)
    if failures:
        print("\n".join(["failed:", *failures]), file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    cli.run(main)
