"""Profiles one training step."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from fewshot.training.tracking.markdown import format_markdown

N_ROWS = 25  # operations in the table


@contextmanager
def profile_step(path: Path) -> Iterator[profile]:
    """Profile the block and write its trace to `path`, for chrome://tracing or https://ui.perfetto.dev."""
    cuda = torch.cuda.is_available()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # without a GPU its library reports an error that is none
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as profiler:
        yield profiler
        if cuda:
            torch.cuda.synchronize()
    profiler.export_chrome_trace(str(path))


def format_operations(profiler: profile) -> str:
    """Format the operations that took longest as a Markdown table."""
    device, name = ("GPU", "self_device_time_total") if torch.cuda.is_available() else ("CPU", "self_cpu_time_total")
    times = {event.key: (getattr(event, name), event.count) for event in profiler.key_averages()}
    total = sum(time for time, _ in times.values())
    longest = sorted(times.items(), key=lambda item: -item[1][0])[:N_ROWS]
    lines = [
        [key, f"{count}", f"{time / 1000:.3f}", f"{100 * time / max(total, 1):.1f}"] for key, (time, count) in longest
    ]
    head = ["operation", "calls", f"own {device} time (ms)", f"share (%) of {total / 1000:.2f} ms"]
    return format_markdown(head, lines)
