"""Everything that TensorBoard shows of a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fewshot.evaluation.records import Records
from fewshot.sampling.episodes import PADDING, Episode

RIGHT, WRONG, EDGE, PAPER = (40, 160, 80), (210, 50, 50), (120, 120, 120), (255, 255, 255)


class Tracker:
    """Writes scalars, galleries and texts below `folder`; nothing where `enabled` is false.

    `from_step`: the step that a resumed run goes on from; points that an interrupted attempt wrote
    after it are hidden.
    """

    def __init__(self, folder: Path, from_step: int, enabled: bool) -> None:
        self.writer, self.from_step = None, from_step
        if enabled:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self.writer = SummaryWriter(str(folder), purge_step=from_step + 1 if from_step else None)
            band = ["Margin", ["val/accuracy", "val/accuracy_low", "val/accuracy_high"]]
            both = ["Multiline", ["train/accuracy", "val/accuracy$"]]
            self.writer.add_custom_scalars(
                {"accuracy": {"validation, 95% interval": band, "training and validation": both}}
            )

    def scalars(self, step: int, **values: float) -> None:
        """One point on each curve; the first underscore of a name separates its group: train_loss."""
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(name.replace("_", "/", 1), value, step)

    def validation(self, step: int, records: Records) -> None:
        """Validation accuracy with its 95% interval over episodes, and loss."""
        mean, half = records.estimate
        self.scalars(
            step, val_accuracy=mean, val_accuracy_low=mean - half, val_accuracy_high=mean + half, val_loss=records.loss
        )

    def config(self, config: dict[str, Any], facts: dict[str, Any]) -> None:
        """The resolved configuration and the facts of this attempt, in the text tab."""
        if self.writer:
            for tag, values in (("config", config), ("run", facts)):
                rows = "\n".join(f"| {key} | `{json.dumps(value)}` |" for key, value in values.items())
                self.writer.add_text(tag, f"| | |\n|---|---|\n{rows}", self.from_step)

    def gallery(self, step: int, episode: Episode, logits: Tensor) -> None:
        """Episodes as pictures: a row per class, support left, queries right, framed green or red."""
        if self.writer:
            for b in range(len(episode)):
                picture = draw_episode(episode, logits, b)
                self.writer.add_image(f"val_episodes/{b}", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        if self.writer:
            self.writer.close()


def draw_episode(episode: Episode, logits: Tensor, b: int, scale_px: int = 56, max_columns: int = 15) -> np.ndarray:
    """Episode b of a batch that carries images, as a picture (height, width, 3) uint8.

    Each row is a class: its support images, a gap, its queries; a query that was taken for
    another class has a red frame and that class's row number.
    """
    predicted = logits[b].argmax(-1).cpu()
    support_labels, query_labels = episode.support_labels[b].cpu(), episode.query_labels[b].cpu()
    shots = int(max(torch.bincount(support_labels[support_labels != PADDING])))
    queries = min(max_columns, int(max(torch.bincount(query_labels[query_labels != PADDING]))))
    cell = scale_px + 6
    sheet = Image.new("RGB", ((shots + queries) * cell + 28 + 12, episode.n_way * cell), PAPER)
    draw = ImageDraw.Draw(sheet)
    for label in range(episode.n_way):
        top = label * cell
        draw.text((8, top + cell // 2 - 6), str(label + 1), fill=EDGE)
        columns = [(episode.support[b, i], EDGE, "") for i in (support_labels == label).nonzero().flatten()[:shots]]
        for i in (query_labels == label).nonzero().flatten()[:queries]:
            right = int(predicted[i]) == label
            columns.append(
                (episode.query[b, i], RIGHT if right else WRONG, "" if right else str(int(predicted[i]) + 1))
            )
        for column, (image, colour, note) in enumerate(columns):
            left = 28 + column * cell + (12 if column >= shots else 0)
            draw.rectangle((left, top, left + cell - 3, top + cell - 3), fill=colour)
            sheet.paste(_thumbnail(image, scale_px), (left + 2, top + 2))
            if note:
                draw.text((left + 4, top + 3), note, fill=WRONG)
    return np.asarray(sheet)


def _thumbnail(image: Tensor, scale_px: int) -> Image.Image:
    """A uint8 image (C, H, W), C of 1 or 3, as a square picture."""
    pixels = image.cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((scale_px, scale_px), Image.Resampling.BILINEAR)
