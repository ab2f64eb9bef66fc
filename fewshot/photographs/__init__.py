"""A user's folder of photographs: checks before a classifier is fitted, and reports of its predictions."""

from fewshot.photographs.inspection.check import FolderCheck, check_folder
from fewshot.photographs.inspection.extrapolation import Extrapolation, extrapolate
from fewshot.photographs.inspection.learning_curve import (
    FolderEstimate,
    ShotsCurve,
    measure_shots_curve,
    predict_left_out,
)
from fewshot.photographs.pages.check_page import write_check
from fewshot.photographs.pages.predictions import Neighbour, PageFacts, Prediction, write_csv
from fewshot.photographs.pages.predictions_page import write_predictions

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
    "measure_shots_curve",
    "predict_left_out",
    "write_check",
    "write_csv",
    "write_predictions",
]
