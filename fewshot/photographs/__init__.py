"""A user's folder of photographs: what it tells before a classifier is fitted, and what a classifier says of it."""

from fewshot.photographs.check import FolderCheck, check_folder
from fewshot.photographs.check_page import write_check
from fewshot.photographs.extrapolation import Extrapolation, extrapolate
from fewshot.photographs.page import write_predictions
from fewshot.photographs.predictions import Neighbour, PageFacts, Prediction, write_csv
from fewshot.photographs.shots import FolderEstimate, ShotsCurve, leave_one_group_out, shots_curve

__all__ = [
    "Extrapolation",
    "FolderCheck",
    "FolderEstimate",
    "Neighbour",
    "PageFacts",
    "Prediction",
    "ShotsCurve",
    "check_folder",
    "extrapolate",
    "leave_one_group_out",
    "shots_curve",
    "write_check",
    "write_csv",
    "write_predictions",
]
