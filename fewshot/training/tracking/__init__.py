"""Writes what TensorBoard shows of a run: curves, options, test tables, classes, episodes, answers, features."""

from fewshot.training.tracking.answers import Answers, AnswersWatch
from fewshot.training.tracking.projector import project
from fewshot.training.tracking.tables import track_tests
from fewshot.training.tracking.tracker import Tracker

__all__ = ["Answers", "AnswersWatch", "Tracker", "project", "track_tests"]
