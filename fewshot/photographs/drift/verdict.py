"""Says whether photographs have changed since a classifier was fitted, or refusals rise."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fewshot.errors import ConfigError
from fewshot.photographs.drift.evidence import HIGH, LOW, Evidence, bet, join, rank_online
from fewshot.photographs.drift.history import History
from fewshot.runtime import seeding

# Chosen on world coins' validation countries and CIFAR-FS's validation classes, see docs/log.md. Left-out photographs
# fit a little worse than new ones, so of how well they fit only lower numbers speak for a change.
SIDES = {"known": (LOW,), "length": (LOW, HIGH), "centre": (LOW, HIGH)}
BY_CLASS = ("length", "centre")  # these differ between classes, of which one may come more often than at fit
REFUSED = "refused"
N_TESTS = 2  # which share the rate of false alarms


@dataclass(frozen=True, eq=False)
class Test:
    """A test of one question.

    Attributes:
        log_wealth: (n,), evidence after each photograph: the logarithm of what a stake of 1 has become.
        bound: evidence at which it raises an alarm.
        parts: of each measure that it looks at.
    """

    log_wealth: np.ndarray
    bound: float
    parts: Mapping[str, Evidence]

    @property
    def alarm(self) -> int | None:
        """The first photograph at which the evidence suffices, from 0; None: at none so far."""
        above = np.flatnonzero(self.log_wealth >= self.bound)
        return int(above[0]) if len(above) else None

    @property
    def leading(self) -> str:
        """The measure that speaks the most for a change, at the alarm or in the end."""
        if not len(self.log_wealth):
            return next(iter(self.parts), "")
        place = -1 if self.alarm is None else self.alarm
        return max(self.parts, key=lambda name: float(self.parts[name].log_wealth[place]))

    @property
    def since(self) -> int | None:
        """The photograph from which on they probably differ; None without an alarm."""
        return None if self.alarm is None else int(self.parts[self.leading].start[self.alarm])


@dataclass(frozen=True, eq=False)
class Verdict:
    """The tests of one classifier's photographs, by name; the chance that any of them is ever wrong is at most `rate`.

    `refusals` is missing where nothing is refused.
    """

    history: History
    rate: float
    tests: Mapping[str, Test]

    @property
    def is_alarm(self) -> bool:
        """Whether any test raises an alarm."""
        return any(test.alarm is not None for test in self.tests.values())


def judge(history: History, rate: float = 0.01) -> Verdict:
    """Test whether photographs have changed, and whether refusals rise.

    Args:
        history: what a classifier was asked.
        rate: chance that an alarm is ever raised although nothing has changed, however long it goes on.

    Returns:
        The verdict, the same each time for the same record.

    Raises:
        ConfigError: for a rate that is none.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"false_alarm_rate is a share between 0 and 1, got {rate}")
    bound = -float(np.log(rate / N_TESTS))
    parts = {name: _weigh(history, name) for name in SIDES if name in history.steps}
    tests = {"photographs": Test(join([part.log_wealth for part in parts.values()]), bound, parts)}
    if history.noted.refused is not None:
        part = _weigh(history, REFUSED)
        tests["refusals"] = Test(part.log_wealth, bound, {REFUSED: part})
    return Verdict(history, rate, tests)


def _weigh(history: History, name: str) -> Evidence:
    now, before = history.noted, history.left_out
    draw = seeding.numpy_generator(0, "ranks of equal numbers", history.id, name)
    sides: tuple[str, ...] = (HIGH,) if name == REFUSED else SIDES[name]
    if name == REFUSED:
        assert now.refused is not None, "`judge` has asked"
        assert before.refused is not None, "both come from one header"
        levels, early = now.refused.astype(int), before.refused.astype(int)
    else:
        levels, early = now.levels[name], before.levels[name]
    alike = 1 if name in BY_CLASS else 0
    return bet(rank_online(levels, alike * now.nearest, early, alike * before.nearest, draw), sides)
