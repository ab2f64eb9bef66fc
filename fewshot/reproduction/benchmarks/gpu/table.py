"""The section of docs/speed.md on GPUs, from the records of `fewshot benchmark --suite gpu` that are kept."""

import json
from pathlib import Path
from typing import Any

from fewshot.reproduction.tables.accuracies import NOT_RUN, format_markdown

STEP_HEAD = ["training step, images on the device", "ms", "of it forward", "images/s", "plain PyTorch, images/s",
             "TFLOP/s", "peak MiB"]  # fmt: skip


def format_records(folder: Path) -> str:
    """The tables, in Markdown, of each card of which `folder` holds a record; what was not run says so."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return "\n\n".join(_format_record(record) for record in records) if records else f"On no GPU: {NOT_RUN}."


def _format_record(record: dict[str, Any]) -> str:
    device = record["device"]
    limit = f"; large bfloat16 matrices: {device['bf16_tflops']:.0f} TFLOP/s" if "bf16_tflops" in device else ""
    title = (
        f"**{device['name']}**, torch {device['torch']}, Python {device['python']}, commit {record['commit'][:7]}, "
        f"{record['date']}{limit}."
    )
    others = [[what, _describe(record.get(part), text)] for part, (what, text) in OTHERS.items()]
    steps = [
        [name, *(_number(step.get(key), digits) for key, digits in STEP_KEYS)]
        for name, step in record.get("steps", {}).items()
        if isinstance(step, dict) and "step_ms" in step
    ]
    return "\n\n".join(
        [title, format_markdown(STEP_HEAD, steps) if steps else NOT_RUN, format_markdown(["", "measured"], others)]
    )


STEP_KEYS = (("step_ms", 1), ("forward_ms", 1), ("images_per_s", 0), ("plain_images_per_s", 0), ("tflops", 1),
             ("peak_mib", 0))  # fmt: skip


def _number(value: float | None, digits: int) -> str:
    return NOT_RUN if value is None else f"{value:,.{digits}f}"


def _describe(part: dict[str, Any] | None, text: str) -> str:
    if part is None:
        return NOT_RUN
    return f"failed: {part['failed']}" if part.get("failed") else text.format(**part)


OTHERS = {
    "tests": ("tests marked `gpu`", "{n_passed} passed, {n_failed} failed, {n_skipped} skipped"),
    "compiled": (
        "ProtoNet, whole optimizer steps",
        "Conv-4, 20-way 5-shot, 84 px: {ProtoNet, Conv-4, 20-way 5-shot, 84 px[eager_ms]:.1f} ms eager, "
        "{ProtoNet, Conv-4, 20-way 5-shot, 84 px[compiled_ms]:.1f} ms compiled; ResNet-12, 5-way 5-shot, 4 episodes: "
        "{ProtoNet, ResNet-12, 5-way 5-shot, 84 px, 4 episodes[eager_ms]:.1f} and "
        "{ProtoNet, ResNet-12, 5-way 5-shot, 84 px, 4 episodes[compiled_ms]:.1f} ms",
    ),
    "training": (
        "ProtoNet to 97.5% on Omniglot's validation characters",
        "{eager[seconds]:.1f} s at {eager[steps/s]:.0f} steps/s, the GPU busy {eager[gpu_busy]:.0%} of the time; "
        "compiled {compiled[seconds]:.1f} s at {compiled[steps/s]:.0f} steps/s",
    ),
    "maml": (
        "second-order MAML, 32 tasks, 5-way 1-shot, against the faster loop over the tasks",
        "{1 inner step[ratio]:.1f} times as fast with 1 inner step, {5 inner steps[ratio]:.1f} with 5",
    ),
    "evaluation": (
        "10,000 episodes from features, 5-way 5-shot, episodes/s",
        "ProtoNet {protonet:,.0f}, Matching {matching:,.0f}, R2D2 {r2d2:,.0f}, SimpleShot {simpleshot:,.0f}",
    ),
    "heads": (
        "heads fitted to an episode, 5-way 5-shot, ms",
        "Baseline's SGD {Baseline, the authors' SGD[ours_ms]:.2f}, softmax regression "
        "{logistic regression[ours_ms]:.2f}",
    ),
    "estimator": (
        "photographs of 640 x 480 px, JPEG, EfficientNet-Lite0",
        "{predicted_images_per_s:,.0f} predicted a second; decoding alone does {decoded_images_per_s:,.0f}",
    ),
}  # of each part: what is measured, and its numbers as a format string
