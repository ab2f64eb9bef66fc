"""`fewshot confidence`: probabilities, "none of these" and prediction sets on episodes with unknown classes."""

from dataclasses import replace

from fewshot.config import ConfidenceConfig
from fewshot.reproduction import trust
from fewshot.runtime.provenance import collect_provenance


def run(config: ConfidenceConfig) -> None:
    """Measure how far each method can be trusted, and print a table; or make the records and tables of a suite.

    Args:
        config: the options of the subcommand.
    """
    if config.suite is not None:
        trust.run_suite(config)
        return
    lines = []
    for name in config.methods:
        found, fingerprint = trust.measure(replace(config, methods=[name]))
        lines.append((name, trust.collect_estimates(found[name])))
        print(trust.format_lines(lines[-1:]), flush=True)
    if len(lines) > 1:
        print(trust.format_lines(lines))
    options = ", ".join(f"{name}={getattr(config, name)}" for name in trust.ASKED)
    print(f"\n{config.dataset}/{config.split}, {options}, data {fingerprint}, commit {collect_provenance()['commit']}")
