"""One photograph's way through `FewShotClassifier.fit`, from room to room."""

import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
from PIL import Image

import fewshot.estimator
from fewshot import FewShotClassifier
from fewshot.backbones import Backbone, Viewed
from fewshot.estimator.encoder import Encoder
from fewshot.runtime import seeding

FOLDER = Path(fewshot.estimator.__file__).parent
NETWORK = {"backbone": "conv4", "pretrained": False, "size_px": 16, "backbone_options": {"n_filters": 8}}


def find_room(frame: FrameType | None) -> str | None:
    """The file of `fewshot/estimator` that the innermost of these frames runs in; None if none does."""
    while frame is not None:
        if Path(frame.f_code.co_filename).parent == FOLDER:
            return Path(frame.f_code.co_filename).stem
        frame = frame.f_back
    return None


def list_visits(call: Callable[[], object]) -> list[str]:
    """The rooms that `call` visits, in order, see `test_a_photograph_enters_no_room_more_than_twice`."""
    visits: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and Path(frame.f_code.co_filename).parent == FOLDER:
            room = find_room(frame)
            if room != find_room(frame.f_back) and room not in visits[-1:]:
                visits.append(room)

    threading.setprofile(note)  # photographs are read in threads of their own
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return visits


def test_a_photograph_enters_no_room_more_than_twice(tmp_path):
    """A room is a file of `fewshot/estimator`.

    A visit of a room begins when code of another room calls one of its functions (or resumes one of its generators),
    and lasts until a third room is called. The return of a call is no new visit of the caller. All photographs of
    this support set travel in one batch, so the visits of the batch are those of each photograph.
    """
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    for number, path in enumerate(paths):
        noise = seeding.numpy_generator(number, "walk").integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(noise).save(path)
    classifier = FewShotClassifier(**NETWORK)
    visits = list_visits(lambda: classifier.fit(paths, list("abababab")))
    assert classifier.calibrated_
    assert {"reading", "encoder", "support", "learned", "fitting"} <= set(visits)
    assert visits.index("reading") < visits.index("support") < visits.index("fitting")
    assert max(Counter(visits).values()) <= 2, visits


def test_batch_normalisation_is_folded_by_one_view(monkeypatch):
    passes = []
    forward = Backbone.forward
    monkeypatch.setattr(Backbone, "forward", lambda self, images: passes.append(self) or forward(self, images))
    encoder = Encoder.create(FewShotClassifier(**NETWORK, rotation_invariant=8))
    passes.clear()
    assert isinstance(encoder.network.backbone, Viewed)
    assert 1 <= len(passes) <= 3  # to find what follows what, and to compare before and after
