"""`fewshot sweep`: every combination of some options, with several seeds, and a table of them."""

import sys
from pathlib import Path

from fewshot.commands.recipes import find_scripts
from fewshot.config.reproduction import SweepConfig
from fewshot.reproduction.launchers import make_launcher
from fewshot.reproduction.runner import run_all
from fewshot.reproduction.summaries import check_summary, format_summary, read_sources, summarize, write_summary
from fewshot.reproduction.sweeps import find_sweep_runs
from fewshot.runtime.files import check_writable
from fewshot.runtime.plugins import load_plugins


def run(config: SweepConfig) -> None:
    """Run every combination of the grid that has not run yet, and print one table of all.

    Args:
        config: the options of the subcommand.
    """
    check_summary(config.summary)
    out = Path(config.out or f"runs/sweep-{Path(config.config).stem if config.config else 'train'}")
    runs = find_sweep_runs(config.config, config.row, config.grid, config.seeds, out)
    load_plugins(plugin for one in runs for plugin in one.config.plugins)
    check_writable(out / "run" / "config.json")
    launcher = make_launcher(config, str(out / "slurm"))
    failed = run_all(runs, find_scripts(), None, config.budget, launcher)
    done = [str(one.folder.path) for one in runs if one.complete]
    if done:
        summary = summarize(read_sources(done))
        print(f"\n{format_summary(summary, 'markdown')}")
        if config.summary:
            write_summary(summary, Path(config.summary))
    if failed:
        sys.exit(f"\nfailed: {', '.join(one.title for one in failed)}")
