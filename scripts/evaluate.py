"""Measure the weights of a run on episodes of any data set, way and shot; write a record per episode."""

from pathlib import Path

from fewshot import cli
from fewshot.config import EvaluateConfig, as_dict
from fewshot.evaluation import report
from fewshot.evaluation.evaluate import evaluate
from fewshot.experiments.build import choose_device, load_run, load_split
from fewshot.experiments.starting import check_unseen, selected_on
from fewshot.runtime import processes
from fewshot.sampling.episodes import EpisodeSpec
from fewshot.training.run_folder import RunFolder


def main() -> None:
    """Parse, load, measure, write, print."""
    config = cli.parse(EvaluateConfig, __doc__)
    device = choose_device()
    method, run = load_run(config.run_dir, config.method_options)
    run = config.applied_to(run)
    spec = EpisodeSpec(config.n_way, config.n_shot, config.n_query, config.disjoint_groups)
    test_set = load_split(run, config.split)
    overlap = check_unseen(config.run_dir, test_set, config.allow_seen_classes)
    records = evaluate(method.to(device), test_set, spec, config.n_episodes, config.seed, precision=config.precision)
    records = records.add_facts(selected_on=selected_on(config.run_dir), config=as_dict(run), **overlap.header)
    if processes.is_first():
        options = "".join(f"-{option}-{value}" for option, value in config.method_options.items())
        cell = f"{run.dataset}-{config.split}-{spec}-seed{config.seed}{options}".replace(",", "").replace(" ", "-")
        path = Path(config.json) if config.json else RunFolder(config.run_dir).records(cell)
        records.write(path)
        print(f"{spec}{records.mark}: {report.percent(records.estimate)}\n{report.facts(records)}\nrecords: {path}")


if __name__ == "__main__":
    cli.run(main)
