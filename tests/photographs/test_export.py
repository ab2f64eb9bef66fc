"""An exported classifier answers as the classifier does, without torch, on every kind of picture."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot import FewShotClassifier
from fewshot.config import ExportConfig
from fewshot.errors import CheckpointError, ConfigError, DataError, OutputError
from fewshot.photographs.serving.bundle import bundle
from fewshot.runtime import seeding

pytest.importorskip("onnx", reason="what writes ONNX is not installed: pip install 'fewshot[export]'")
pytest.importorskip("onnxscript", reason="what writes ONNX is not installed: pip install 'fewshot[export]'")
pytest.importorskip("onnxruntime", reason="what runs ONNX is not installed: pip install 'fewshot[export]'")

from fewshot.photographs.serving.export import write_predictor
from fewshot.photographs.serving.exporting import export, measure_folder
from fewshot.photographs.serving.predictor import Predictor

COLOURS = {"a klein": (200, 60, 40), "b größer": (40, 160, 60), "c": (50, 70, 210)}
NETWORK = {
    "backbone": "conv4", "pretrained": False, "size_px": 32, "backbone_options": {"n_filters": 8},
    "precision": "float32", "device": "cpu",
}  # fmt: skip
VIEWS = {"find_circle": True, "rotation_invariant": 4, "views": {"colour": 0.3, "radius": 0.5, "zooms": [1.0, 0.8]}}
ALIGNED = {"method": "aligned", "rotation_invariant": 16, "views": {"rings": "blocks.1"}, "size_px": 64}
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "fewshot", "scipy", "sklearn", "torchvision", "timm"}:
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Blocker())
"""


def draw_coin(colour: tuple[int, int, int], number: int, side_px: int = 60) -> Image.Image:
    """A disc with a ring on a grey table."""
    rng = seeding.numpy_generator(number, "coin", colour)
    y, x = np.mgrid[:side_px, :side_px] - side_px / 2
    radius = np.hypot(x - rng.uniform(-2, 2), y - rng.uniform(-2, 2)) / (side_px * rng.uniform(0.36, 0.42))
    pixels = np.full((side_px, side_px, 3), 150.0)
    pixels[radius < 1] = colour
    pixels[radius < 0.5] *= 0.6
    return Image.fromarray((pixels + rng.normal(0, 12, pixels.shape)).clip(0, 255).astype(np.uint8))


def write_odd_pictures(folder: Path) -> list[Path]:
    """One of each kind that phones, scanners and drawing programs write."""
    folder.mkdir()
    coin = draw_coin(COLOURS["c"], 7)
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.new("RGB", (90, 60), "white")
    wide.paste(coin, (30, 0))
    clear = coin.convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (60, 1))))
    kinds = {
        "turned.jpg": (wide, {"exif": exif}), "cmyk.jpg": (coin.convert("CMYK"), {}),
        "grey.png": (coin.convert("L"), {}), "palette.png": (coin.convert("P", palette=Image.Palette.ADAPTIVE), {}),
        "16 bits.png": (Image.fromarray(np.asarray(coin.convert("L")).astype(np.uint16) * 257), {}),
        "clear.png": (clear, {}), "bits.png": (coin.convert("1"), {}), "large.jpg": (coin.resize((4000, 3000)), {}),
        "webp.webp": (coin, {}), "gif.gif": (coin.convert("P"), {}), "tiff.tif": (wide, {"exif": exif}),
    }  # fmt: skip
    for name, (image, options) in kinds.items():
        image.save(folder / name, **options)
    return [folder / name for name in kinds]


def fit(**options) -> FewShotClassifier:
    images = [draw_coin(colour, number) for colour in COLOURS.values() for number in range(4)]
    labels = [name for name in COLOURS for _ in range(4)]
    return FewShotClassifier(**NETWORK | options).fit(images, labels, [f"g{i % 4}" for i in range(12)])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    return write_odd_pictures(tmp_path_factory.mktemp("odd") / "pictures")


@pytest.fixture(
    scope="module",
    params=[{"false_accept_rate": 0.3}, VIEWS, ALIGNED | {"false_accept_rate": 0.3}],
    ids=["plain", "views", "aligned"],
)
def exported(request, tmp_path_factory) -> tuple[FewShotClassifier, Path]:
    classifier, folder = fit(**request.param), tmp_path_factory.mktemp("exported") / "coins"
    write_predictor(classifier, folder)
    return classifier, folder


def test_answers_are_those_of_the_classifier(exported, pictures):
    classifier, folder = exported
    predictor = Predictor(folder)
    assert predictor.classes == classifier.classes_.tolist()
    np.testing.assert_allclose(predictor.predict_proba(pictures), classifier.predict_proba(pictures), atol=1e-4)
    assert predictor.predict(pictures) == classifier.predict(pictures).tolist()
    coins = [draw_coin(colour, 50 + number) for colour in COLOURS.values() for number in range(2)]
    np.testing.assert_allclose(predictor.predict_proba(coins), classifier.predict_proba(coins), atol=1e-4)


def test_an_answer_does_not_depend_on_the_pictures_beside_it(exported, pictures):
    predictor = Predictor(exported[1])
    alone = np.concatenate([predictor.predict_proba([path]) for path in pictures])
    np.testing.assert_allclose(predictor.predict_proba(pictures), alone, atol=1e-9)


def test_the_file_alone_answers_without_torch_and_this_package(exported, pictures, tmp_path):
    classifier, folder = exported
    shutil.copytree(folder, tmp_path / "away")
    program = BLOCKER + (
        f"import runpy; sys.argv = ['predictor.py', {str(pictures[0].parent)!r}]\n"
        f"runpy.run_path({str(tmp_path / 'away' / 'predictor.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    paths = [Path(line[0]) for line in lines]
    assert sorted(paths) == sorted(pictures)
    assert [line[1] for line in lines] == classifier.predict(paths).tolist()


def test_a_class_more_is_learned_as_the_classifier_learns_it(exported, pictures, tmp_path):
    _, folder = exported
    classifier, predictor = fit_again(exported[0]), Predictor(folder)
    more = [draw_coin((200, 200, 40), number) for number in range(3)]
    classifier.add_class("d", more, list("xyz"))
    predictor.add_class("d", more, list("xyz"))
    np.testing.assert_allclose(predictor.predict_proba(pictures), classifier.predict_proba(pictures), atol=2e-4)
    assert predictor.predict(more) == classifier.predict(more).tolist()
    shutil.copytree(folder, tmp_path / "saved")
    predictor.save(tmp_path / "saved")
    again = Predictor(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict_proba(pictures), predictor.predict_proba(pictures))
    assert json.loads((tmp_path / "saved" / "labels.json").read_text())["classes"] == [*COLOURS, "d"]
    assert again.remove_class("d").classes == list(COLOURS)
    assert Predictor(folder).classes == list(COLOURS)  # nothing was written there


def fit_again(classifier: FewShotClassifier) -> FewShotClassifier:
    return fit(**{k: v for k, v in classifier.get_params().items() if k not in NETWORK or k == "size_px"})


# ---------------------------------------------------------------- one small classifier


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[FewShotClassifier, Path]:
    classifier, folder = fit(), tmp_path_factory.mktemp("plain") / "coins"
    write_predictor(classifier, folder)
    return classifier, folder


def test_bad_pictures_are_named_and_stop_no_others(plain, tmp_path):
    predictor = Predictor(plain[1])
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    good = draw_coin(COLOURS["c"], 1)
    pixels, bad = predictor.read([good, tmp_path / "broken.jpg", b"\x89PNG\r\n\x1a\n", np.zeros((4, 4, 5), np.uint8)])
    assert sorted(bad) == [1, 2, 3]
    assert "broken.jpg: this is no image" in bad[1]
    assert bad[2].startswith("image 2: ")
    assert "got (4, 4, 5) of uint8" in bad[3]
    assert pixels[0].any()
    assert not pixels[1:].any()
    with pytest.raises(DataError, match=r"1 of 2 images cannot be used: .*broken.jpg"):
        predictor.predict([good, tmp_path / "broken.jpg"])
    with pytest.raises(DataError, match=r"^[^ ]*broken.jpg: this is no image"):
        predictor.predict([tmp_path / "broken.jpg"])
    with pytest.raises(DataError, match="for a single one write"):
        predictor.predict(good)
    with pytest.raises(DataError, match="the list is empty"):
        predictor.predict([])


def test_bytes_paths_and_arrays_of_one_picture_have_one_answer(plain, tmp_path):
    predictor, coin = Predictor(plain[1]), draw_coin(COLOURS["c"], 1)
    coin.save(tmp_path / "c.png")
    forms = [tmp_path / "c.png", str(tmp_path / "c.png"), (tmp_path / "c.png").read_bytes(), coin, np.asarray(coin)]
    found = predictor.predict_proba(forms)
    np.testing.assert_allclose(found, np.broadcast_to(found[:1], found.shape), rtol=1e-12)  # sums of 64 bits


def test_a_foreign_folder_is_no_predictor(plain, tmp_path):
    with pytest.raises(CheckpointError, match=r"no folder that `fewshot export` wrote: there is no labels.json"):
        Predictor(tmp_path)
    shutil.copytree(plain[1], tmp_path / "cut")
    (tmp_path / "cut" / "encoder.onnx").write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match=r"encoder.onnx is no network"):
        Predictor(tmp_path / "cut")
    (tmp_path / "cut" / "head.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"head.npz cannot be read"):
        Predictor(tmp_path / "cut")


def test_a_folder_that_holds_something_else_is_left_alone(plain, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds diary.txt: name an empty folder"):
        write_predictor(plain[0], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_the_command_writes_card_and_requirements_and_measures_8_bits(plain, tmp_path, capsys):
    classifier, folder = plain
    classifier.save(tmp_path / "coins.fewshot")
    for name, colour in COLOURS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(60, 63):
            draw_coin(colour, number).save(tmp_path / "photos" / name / f"{number}.png")
    asked = {"model": str(tmp_path / "coins.fewshot"), "photos": str(tmp_path / "photos")}
    export(ExportConfig(**asked, out=str(tmp_path / "small"), int8=True))
    assert "same class: " in capsys.readouterr().out
    sizes = [(place / "encoder.onnx").stat().st_size for place in (tmp_path / "small", folder)]
    assert sizes[0] < sizes[1]  # most of so small a network's file is no weights
    change = np.abs(Predictor(tmp_path / "small").encode(Predictor(folder).read([b""])[0]) -
                    Predictor(folder).encode(Predictor(folder).read([b""])[0]))  # fmt: skip
    assert 0 < change.max() < 0.05
    card = (tmp_path / "small" / "card.md").read_text(encoding="utf-8")
    for words in (
        "| photographs learned from | 12, 4 to 4 a class |", "| b größer | 4 |", "| right on photographs left out | ",
        "| photographs that the files were tried on | 9 of photos |", "Fewer than 5 photographs of a klein",
        "every photograph is given one of the classes",
    ):  # fmt: skip
        assert words in card
    wanted = {"numpy", "onnxruntime", "pillow"}
    assert {line.partition(">")[0] for line in (folder / "requirements.txt").read_text().split()} == wanted


def test_what_was_fitted_by_draws_or_adapted_answers_but_learns_nothing(tmp_path, pictures):
    for name, options, why in (
        ("draws", {"method": "baseline", "method_options": {"solver": "faithful"}}, "stochastic gradient descent"),
        ("plus", {"method": "baseline++", "method_options": {"solver": "faithful"}}, "stochastic gradient descent"),
        ("tuned", {"method": "finetune", "method_options": {"mode": "full", "steps": 3}}, "network was adapted"),
    ):
        classifier = fit(**options)
        write_predictor(classifier, tmp_path / name)
        predictor = Predictor(tmp_path / name)
        np.testing.assert_allclose(predictor.predict_proba(pictures), classifier.predict_proba(pictures), atol=1e-4)
        with pytest.raises(DataError, match=why):
            predictor.add_class("d", [draw_coin((9, 9, 9), 1)], ["x"])


def test_what_cannot_be_exported_is_a_sentence(tmp_path):
    features = FewShotClassifier(None).fit(np.eye(4), list("abab"))
    with pytest.raises(ConfigError, match="a classifier of features has no network"):
        write_predictor(features, tmp_path / "a")
    changes = {"mode": "linear", "steps": 1, "augmentation": {"rotation_degrees": 10.0}, "test_views": 2}
    views = {"method_options": changes}
    with pytest.raises(ConfigError, match=r"test_views=2 draws changes"):
        write_predictor(fit(method="finetune", **views), tmp_path / "b")


def test_the_bundle_needs_three_packages_and_defines_each_name_once():
    tree = ast.parse(bundle())
    modules = {n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert foreign == {"numpy", "onnxruntime", "PIL", "pillow_heif"}  # the last one only where it is installed
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(defined) == len(set(defined))
    assert {"Predictor", "decode_image", "fit_softmax_regression", "read_regular"} <= set(defined)
    assert not {"write_whole", "Registry", "crop_circle"} & set(defined)  # not reached from the predictor


@pytest.mark.parametrize(("precision", "said"), [("float32", False), ("bfloat16", True)])
def test_files_that_compute_otherwise_than_the_classifier_say_so(tmp_path, precision, said):
    for name, colour in COLOURS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            draw_coin(colour, number).save(tmp_path / "photos" / name / f"{number}.png")
    classifier = FewShotClassifier(**NETWORK | {"precision": precision}).fit_folder(tmp_path / "photos")
    write_predictor(classifier, tmp_path / "coins")
    rows = dict(measure_folder(classifier, tmp_path / "coins", str(tmp_path / "photos"), None))
    assert ("precision" in rows) == said
    assert (
        not said or "computes in bfloat16 here, the files in float32: fit with --precision float32" in rows["precision"]
    )
