"""`fewshot evaluate`: measures the weights of a run on episodes of any data set, ways and shots."""

from pathlib import Path

from fewshot.config import EvaluateConfig, as_dict
from fewshot.evaluation import report
from fewshot.evaluation.evaluate import evaluate
from fewshot.experiments.base_classes import load_base_classes
from fewshot.experiments.build import choose_device, load_run, load_split
from fewshot.experiments.starting import check_unseen, find_selected_on
from fewshot.runtime import processes
from fewshot.runtime.files import check_writable
from fewshot.sampling.episodes import EpisodeSpec
from fewshot.training.run_folder import RunFolder


def run(config: EvaluateConfig) -> None:
    """Measure a run's method on test episodes, print the result, and write a record of each episode.

    Args:
        config: the options of the subcommand.
    """
    check_writable(config.json or RunFolder(config.run_dir).records("cell"))
    device = choose_device()
    method, own_config = load_run(config.run_dir, config.method_options)
    run_config = config.applied_to(own_config)
    method = method.to(device)
    base = load_base_classes(own_config, method, config.base_images, config.run_dir) if config.base_images else None
    spec = EpisodeSpec(config.n_way, config.n_shot, config.n_query, config.disjoint_groups)
    test_set = load_split(run_config, config.split)
    overlap = check_unseen(config.run_dir, test_set, config.allow_seen_classes)
    records = evaluate(method, test_set, spec, config.n_episodes, config.seed, precision=config.precision, base=base)
    records = records.add_facts(
        selected_on=find_selected_on(config.run_dir), config=as_dict(run_config), **overlap.header
    )
    if processes.is_first():
        changed = {**config.method_options, **config.dataset_options}
        options = "".join(f"-{option}-{value}" for option, value in changed.items()).replace("/", "-")
        cell = f"{run_config.dataset}-{config.split}-{spec}-seed{config.seed}{options}"
        cell = cell.replace(",", "").replace(" ", "-")
        path = Path(config.json) if config.json else RunFolder(config.run_dir).records(cell)
        records.write(path)
        print(f"{spec}{records.mark}: {report.format_percent(records.estimate)}")
        if base:
            print(report.format_base_classes(records.header))
        print(f"{report.format_facts(records)}\nrecords: {path}")
