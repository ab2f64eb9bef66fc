"""Options of the command that watches a classifier in use."""

from dataclasses import dataclass

from fewshot.errors import ConfigError


@dataclass
class MonitorConfig:
    """A drift record, and what is made of it."""

    record: str
    """file that `fewshot predict --watch` or `fewshot serve --watch` has written"""
    html: str | None = None
    """file for a page with charts"""
    json: str | None = None
    """file for the verdict"""
    false_alarm_rate: float = 0.01
    """chance that an alarm is ever raised, however long it goes on, while photographs are like those left out at fit"""
    since: str | None = None
    """only photographs from this time on, such as 2026-11-28 or 2026-11-28T10:00 (UTC): after an alarm was seen to"""

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm_rate < 1:
            raise ConfigError(f"false_alarm_rate is a share between 0 and 1, got {self.false_alarm_rate}")
