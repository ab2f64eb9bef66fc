"""Checks of a folder of photographs and estimates of its accuracy, on files made to show each finding."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy.stats import binom

from fewshot.errors import DataError
from fewshot.methods import create_method
from fewshot.methods.solvers import softmax_regression
from fewshot.photographs.inspection.check import check_folder
from fewshot.photographs.inspection.extrapolation import extrapolate, fit_laws
from fewshot.photographs.inspection.findings import Flagged
from fewshot.photographs.inspection.intervals import compute_wilson_interval, estimate_proportion
from fewshot.photographs.inspection.learning_curve import (
    ShotsCurve,
    fold_supports,
    limit_fits,
    measure_shots_curve,
    predict_left_out,
)
from fewshot.photographs.inspection.reading import read_photograph
from fewshot.photographs.inspection.suspects import (
    Suspect,
    describe_suspects,
    find_suspects,
    score_labels,
)
from fewshot.photographs.suggestions import measure_likeness

PX = 64


def scene(seed: int, width: int = PX, height: int = PX) -> Image.Image:
    """A picture of its own: smooth random colours with edges."""
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    return rough.resize((width, height), Image.Resampling.BICUBIC)


def tree(root, **n_images):
    """`root/<class>/<k>.png`, all pictures different."""
    for number, (name, n) in enumerate(n_images.items()):
        (root / name).mkdir(parents=True)
        for k in range(n):
            scene(1000 * number + k).save(root / name / f"{k}.png")
    return root


def look(root, *args, **options):
    """Findings by kind, and the check."""
    check = check_folder(root, *args, **({"size_px": 32} | options))
    return {finding.kind: finding for finding in check.findings}, check


def files_of(finding):
    return [set(flagged.files) for flagged in finding.flagged]


def test_a_good_folder_has_nothing_to_mend(tmp_path):
    found, check = look(tree(tmp_path / "pets", cat=6, dog=7))
    assert found == {}
    assert (check.class_counts, check.group_counts, check.n_images) == ({"cat": 6, "dog": 7}, None, 13)
    assert "Nothing to mend" in check.as_text()
    assert "13 photographs of 2 classes" in check.as_text()


def test_counts_know_groups(tmp_path):
    root = tree(tmp_path / "pets", cat=3, dog=2)
    found, check = look(root, r"^(\d)")
    assert check.group_counts == {"cat": 3, "dog": 2}
    assert check.n_groups == 3
    rows = ["file,group", *(f"cat/{k}.png,a" for k in range(3)), "dog/0.png,a", "dog/1.png,b"]
    (root / "groups.csv").write_text("\n".join(rows))
    found, check = look(root, "groups.csv")
    assert check.group_counts == {"cat": 1, "dog": 2}
    assert set(found) == {"one group"}  # and the table itself is no foreign file
    assert "cat" in found["one group"].sentence


def test_unreadable_files_are_all_named_and_the_rest_goes_on(tmp_path):
    root = tree(tmp_path / "pets", cat=3, dog=3)
    (root / "cat" / "0.png").write_bytes((root / "cat" / "0.png").read_bytes()[:200])
    (root / "dog" / "empty.jpg").write_bytes(b"")
    (root / "dog" / "text.jpg").write_text("no image at all")
    found, check = look(root)
    bad = found["unreadable"]
    assert bad.severity == "error"
    assert files_of(bad) == [{"cat/0.png"}, {"dog/empty.jpg"}, {"dog/text.jpg"}]
    assert [word in f.why for word, f in zip(("cut short", "0 bytes", "no image"), bad.flagged, strict=True)] == [
        True
    ] * 3
    assert str(root) not in bad.flagged[0].why
    assert check.class_counts == {"cat": 2, "dog": 3}


def test_a_class_of_unreadable_files_only(tmp_path):
    root = tree(tmp_path / "pets", cat=3, dog=1)
    (root / "dog" / "0.png").write_bytes(b"x")
    found, check = look(root)
    assert check.class_counts == {"cat": 3, "dog": 0}
    assert found["empty class"].severity == "error"
    assert "dog" in found["empty class"].sentence
    assert "0 cat" not in check.as_text()


def test_the_same_picture_within_a_class_and_in_two(tmp_path):
    root = tree(tmp_path / "pets", cat=4, dog=4)
    shutil.copy(root / "cat" / "0.png", root / "cat" / "copy.png")
    Image.open(root / "cat" / "0.png").save(root / "cat" / "other bytes.bmp")
    shutil.copy(root / "cat" / "1.png", root / "dog" / "x.png")
    found, _ = look(root)
    assert files_of(found["duplicates"]) == [{"cat/0.png", "cat/copy.png", "cat/other bytes.bmp"}]
    assert found["duplicates"].severity == "warning"
    assert files_of(found["picture in two classes"]) == [{"cat/1.png", "dog/x.png"}]
    assert found["picture in two classes"].severity == "error"
    assert found["picture in two classes"].flagged[0].why == "in cat, dog"
    assert "near-duplicates" not in found  # exact copies are reported only once, as duplicates
    assert "alike in two classes" not in found


def test_near_duplicates_survive_resizing_and_jpeg(tmp_path):
    root = tree(tmp_path / "pets", cat=12, dog=12)
    Image.open(root / "cat" / "3.png").save(root / "cat" / "again.jpg", quality=60)
    scene(5, 200, 200).save(root / "cat" / "large.jpg", quality=80)
    Image.open(root / "cat" / "7.png").resize((40, 40)).save(root / "dog" / "small.webp", quality=60)
    found, _ = look(root)
    assert sorted(map(sorted, files_of(found["near-duplicates"]))) == [
        ["cat/3.png", "cat/again.jpg"],
        ["cat/5.png", "cat/large.jpg"],
    ]
    assert files_of(found["alike in two classes"]) == [{"cat/7.png", "dog/small.webp"}]


def test_near_duplicates_of_one_group_are_expected(tmp_path):
    root = tree(tmp_path / "pets", cat=3, dog=3)
    Image.open(root / "cat" / "0.png").save(root / "cat" / "0 again.jpg", quality=90)
    assert "near-duplicates" in look(root)[0]
    assert "near-duplicates" not in look(root, r"^\d")[0]
    assert "near-duplicates" in look(root, r"^[^.]*")[0]


@pytest.mark.needs_data
def test_coins_are_discs_but_not_near_duplicates(data_root, tmp_path):
    import zipfile

    with zipfile.ZipFile(data_root / "world_coins" / "world_coins_211_84.zip") as archive:
        names = [n for n in archive.namelist() if n.endswith((".jpg", ".png", ".webp"))][:200]
        archive.extractall(tmp_path / "coins", names)
    place = next(p for p in (tmp_path / "coins").rglob("*") if p.is_file()).parent.parent
    found, _ = look(place)
    n_pairs = sum(len(found[kind].flagged) for kind in ("near-duplicates", "alike in two classes") if kind in found)
    assert n_pairs <= 10  # of 19,900


def test_blurred_against_the_median(tmp_path):
    root = tmp_path / "pets"
    for k in range(12):
        path = root / ("cat" if k < 6 else "dog") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(k).integers(0, 256, (PX, PX, 3), dtype=np.uint8)
        Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4 if k == 11 else 0)).save(path)
    found, _ = look(root)
    assert files_of(found["blurred"]) == [{"dog/11.png"}]
    (root / "dog" / "11.png").unlink()
    for path in root.glob("*/*.png"):  # if all are blurred, so is the median, and none is flagged
        Image.open(path).filter(ImageFilter.GaussianBlur(4)).save(path)
    assert "blurred" not in look(root)[0]


def test_too_dark_and_too_bright_but_not_a_white_background(tmp_path):
    root = tree(tmp_path / "pets", cat=6, dog=6)
    pixels = np.asarray(scene(5), float)
    Image.fromarray((pixels / 6).astype(np.uint8)).save(root / "cat" / "night.png")
    Image.fromarray((255 - (255 - pixels) / 6).astype(np.uint8)).save(root / "dog" / "snow.png")
    small = Image.new("RGB", (PX, PX), "white")
    small.paste(scene(6, 16, 16), (20, 20))
    small.save(root / "dog" / "on white.png")
    found, _ = look(root)
    assert files_of(found["too dark"]) == [{"cat/night.png"}]
    assert files_of(found["too bright"]) == [{"dog/snow.png"}]


def test_mirrored_copies_but_not_symmetric_things(tmp_path):
    root = tree(tmp_path / "pets", cat=6, dog=6)
    scene(77).save(root / "cat" / "left.png")
    scene(77).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((48, 48)).save(root / "dog" / "right.jpg")
    half = np.asarray(scene(78))
    both = np.concatenate([half, half[:, ::-1]], 1)  # its own mirror image
    for name in ("a", "b"):
        Image.fromarray(both).save(root / "cat" / f"symmetric {name}.png")
    found, _ = look(root)
    assert files_of(found["mirrored"]) == [{"cat/left.png", "dog/right.jpg"}]


def test_tiny_files_and_strips(tmp_path):
    root = tree(tmp_path / "pets", cat=4, dog=4)
    scene(90, 31, 50).save(root / "cat" / "tiny.png")
    scene(91, 300, 99).save(root / "dog" / "strip.png")
    found, _ = look(root)
    assert files_of(found["tiny"]) == [{"cat/tiny.png"}]
    assert (found["tiny"].severity, found["tiny"].flagged[0].why) == ("warning", "31 x 50 px")
    assert files_of(found["long strips"]) == [{"dog/strip.png"}]
    assert look(root, size_px=31)[0].keys() == {"long strips"}
    mostly = look(root, size_px=224)[0]["tiny"]
    assert (mostly.severity, len(mostly.flagged)) == ("note", 10)


def test_class_counts_worth_a_word(tmp_path):
    found, _ = look(tree(tmp_path / "pets", cat=5, dog=1))
    assert "dog" in found["one photograph"].sentence
    assert "cat has 5 photographs, dog 1" in found["unbalanced"].sentence
    assert "unbalanced" not in look(tree(tmp_path / "more", cat=9, dog=2))[0]
    assert look(tree(tmp_path / "one", cat=3))[0]["one class"].severity == "error"


def test_foreign_files_are_listed_and_names_may_be_anything(tmp_path):
    root = tree(tmp_path / "Münzen", **{"zwei €": 2, "eins ½": 2})
    (root / "notes.txt").write_text("x")
    (root / "zwei €" / "IMG_1.HEIC").write_bytes(b"x")
    (root / "zwei €" / ".DS_Store").write_bytes(b"x")
    scene(50).save(root / "eins ½" / "猫 'quoted' \"x\".jpg")
    found, check = look(root)
    assert files_of(found["other files"]) == [{"notes.txt"}]
    assert found["other files"].severity == "note"
    assert files_of(found["camera formats"]) == [{"zwei €/IMG_1.HEIC"}]
    assert check.class_counts == {"eins ½": 3, "zwei €": 2}


def test_findings_are_in_order_of_severity_and_plain_json(tmp_path):
    root = tree(tmp_path / "pets", cat=9, dog=1)
    (root / "readme.txt").write_text("x")
    (root / "cat" / "bad.png").write_bytes(b"x")
    _, check = look(root)
    assert [f.severity for f in check.findings] == ["error", "warning", "warning", "note"]
    again = json.loads(json.dumps(check.as_dict()))
    assert again["n_images"] == 10
    assert again["findings"][0]["flagged"] == [
        {"files": ["cat/bad.png"], "why": check.findings[0].flagged[0].why, "like": []}
    ]
    lines = check.as_text().splitlines()
    assert any(line.startswith("ERROR: 1 file cannot be read") for line in lines)
    assert any("cat/bad.png: " in line for line in lines)


def test_odd_pictures_go_through(tmp_path):
    root = tree(tmp_path / "pets", cat=1, dog=1)
    scene(1).convert("CMYK").save(root / "cat" / "cmyk.jpg")
    scene(2).save(root / "cat" / "moving.gif", save_all=True, append_images=[scene(3), scene(4)])
    scene(5).convert("RGBA").save(root / "dog" / "alpha.png")
    Image.new("RGB", (8660, 5774), "teal").save(root / "dog" / "50 megapixels.jpg")
    found, check = look(root)
    assert "unreadable" not in found
    assert check.n_images == 6


def test_reading_is_upright_and_without_padding(tmp_path):
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image.save(tmp_path / "x.png", exif=exif)
    seen = read_photograph(tmp_path / "x.png", 10)
    assert (seen.width_px, seen.height_px, seen.pixels.shape) == (20, 40, (10, 5, 3))
    assert seen.pixels[0, 2].tolist() == [0, 0, 255]
    assert seen.pixels[9, 2].tolist() == [255, 0, 0]
    with pytest.raises(DataError, match="cannot be read"):
        read_photograph(tmp_path / "absent.png")


def test_folders_that_are_no_classes(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        check_folder(tmp_path / "nowhere")
    scene(0).save(tmp_path / "loose.png")
    with pytest.raises(DataError, match="no class folder"):
        check_folder(tmp_path)
    with pytest.raises(DataError, match="size_px"):
        check_folder(tmp_path, size_px=0)


# What the features tell


METHODS = {name: create_method(name, None) for name in ("protonet", "nearest", "r2d2")}
METHODS["logistic"] = create_method("baseline", None, solver="logistic")  # works from inner products


def clouds(seed: int = 0, n: int = 30, n_way: int = 3, n_groups: int = 7, spread: float = 1.5):
    """Features (n, 5) around class means, labels and group names."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_way), rng.integers(0, n_way, n - n_way)])
    groups = rng.integers(0, n_groups, n)
    features = torch.tensor(
        rng.normal(size=(n_way, 5))[labels] * 2 + spread * rng.normal(size=(n, 5)), dtype=torch.float32
    )
    return features, labels, [f"photo {g}" for g in groups]


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("grouped", [True, False])
def test_leave_one_group_out_is_the_slow_loop(name, grouped):
    features, labels, groups = clouds()
    method = METHODS[name]
    found = predict_left_out(method.predict_among, features, labels, groups if grouped else None)
    group = np.unique(groups, return_inverse=True)[1] if grouped else np.arange(len(labels))
    supports, right = fold_supports(labels, group), 0
    for i in range(len(labels)):
        others = np.flatnonzero(supports[group[i]])
        logits = method.head(features[others][None], torch.tensor(labels[others])[None], features[i][None, None], 3)[
            0, 0
        ]
        assert torch.allclose(found.logits[i], logits, atol=1e-3, rtol=1e-3)
        right += int(logits.argmax()) == labels[i]
    assert found.overall.mean == pytest.approx(right / len(labels))
    assert found.overall.n_groups == (len(set(groups)) if grouped else len(labels))
    assert found.predictions.tolist() == found.logits.argmax(1).tolist()


@pytest.mark.parametrize("grouped", [True, False])
def test_a_fold_leaves_out_a_group_of_each_class(grouped):
    _, labels, groups = clouds(n=40)
    group = np.unique(groups, return_inverse=True)[1] if grouped else np.arange(40)
    for g, support in enumerate(fold_supports(labels, group)):
        assert not support[group == g].any()
        for c in range(3):
            left_out = np.unique(group[(labels == c) & ~support])
            assert len(left_out) == 1
            assert (g in left_out) == (g in group[labels == c])
            assert not support[(labels == c) & (group == left_out[0])].any()


def test_what_a_fold_drops_depends_on_its_number_and_the_seed_alone():
    """`Generator.choice` of one group for each class that the fold does not hold: records of `check` rest on it."""
    _, labels, groups = clouds(n=40)
    group = np.unique(groups, return_inverse=True)[1]
    for g, support in enumerate(fold_supports(labels, group, seed=3)):
        draw, expected = np.random.default_rng((3, g)), group != g
        for c in range(3):
            own = np.unique(group[labels == c])
            if g not in own:
                expected &= (labels != c) | (group != draw.choice(own))
        assert np.array_equal(support, expected)


def test_noise_is_right_by_chance_not_below():
    """Leaving out images of one class only would make it the rarest class, and a fitted head would get it wrong."""
    predict = create_method("baseline", None, solver="logistic", c=0.01).predict_among
    labels = np.repeat([0, 1], 6)
    noise = torch.randn(60, 12, 20, generator=torch.Generator().manual_seed(0))
    right = [predict_left_out(predict, features, labels).overall.mean for features in noise]
    assert np.mean(right) == pytest.approx(0.5, abs=0.08)


def test_chunks_change_nothing(monkeypatch):
    features, labels, _ = clouds(n=40)
    whole = predict_left_out(METHODS["protonet"].predict_among, features, labels, None).logits
    monkeypatch.setattr("fewshot.photographs.inspection.learning_curve.CHUNK_BYTES", 3 * features.numel() * 4)
    assert torch.allclose(
        predict_left_out(METHODS["protonet"].predict_among, features, labels, None).logits, whole, atol=1e-4
    )


def test_a_class_of_one_group_is_not_measured():
    features = torch.tensor([[0.0], [0.1], [5.0], [5.1], [9.0], [9.1]])
    found = predict_left_out(METHODS["protonet"].predict_among, features, [0, 0, 1, 1, 2, 2], list("abcdee"))
    assert found.by_class[2] is None
    assert found.by_class[0].mean == found.by_class[1].mean == 1
    assert found.overall[0] == 1
    assert found.overall.n_images == 4
    with pytest.raises(DataError, match="two groups"):
        predict_left_out(METHODS["protonet"].predict_among, features[:4], [0, 0, 1, 1], list("aabb"))


def test_a_group_is_never_its_own_support():
    """A nearest neighbour classifies copies within a group perfectly, unless the whole group is left out."""
    rng = np.random.default_rng(0)
    features = torch.tensor(np.repeat(rng.normal(size=(40, 8)), 3, 0), dtype=torch.float32)
    labels = np.repeat(rng.integers(0, 2, 40), 3)
    groups = np.repeat(np.arange(40), 3)
    assert predict_left_out(METHODS["nearest"].predict_among, features, labels).overall.mean == 1
    honest = predict_left_out(METHODS["nearest"].predict_among, features, labels, groups).overall
    assert honest.low < 0.5 < honest.high


@pytest.mark.parametrize(
    ("features", "labels", "groups"),
    [(torch.zeros(3, 2), [0, 1], None), (torch.zeros(2, 2), [0, 1], ["a"]), (torch.zeros(4), [0, 1, 0, 1], None),
     (torch.zeros(2, 2), [1, 1], None), (torch.zeros(2, 2), [-1, 1], None)],
)  # fmt: skip
def test_lists_that_do_not_fit(features, labels, groups):
    with pytest.raises(DataError, match=r"need features|labels must be"):
        predict_left_out(METHODS["protonet"].predict_among, features, labels, groups)


def test_wilson_by_the_quadratic_it_solves():
    for mean, n in ((0.0, 10), (0.3, 7), (0.9, 40), (1.0, 3)):
        for end in compute_wilson_interval(mean, n):
            if 0 < end < 1:
                assert abs(mean - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-6)
    assert compute_wilson_interval(0.0, 10)[0] == 0
    assert compute_wilson_interval(1.0, 10)[1] == 1


def test_interval_without_groups_is_wilsons():
    right = np.array([1, 1, 0, 1, 1, 0, 1])
    found = estimate_proportion(right, np.ones(7))
    assert found.mean == pytest.approx(5 / 7)
    assert (found.low, found.high) == compute_wilson_interval(5 / 7, 7)


def test_groups_that_are_all_right_or_all_wrong_count_as_one_image_each():
    """10 groups of 20 equal answers carry the information of 10 images, reduced by the correction for few groups."""
    groups = np.repeat(np.arange(10), 20)
    right = np.repeat([1, 1, 1, 0, 1, 0, 1, 1, 0, 1], 20)
    found = estimate_proportion(right, np.ones(200), groups)
    effective = 9 * (1.959964 / 2.262157) ** 2  # variance of 10 values with n - 1; Student's quantile with 9
    low, high = compute_wilson_interval(0.7, effective)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    sure = estimate_proportion(np.ones(200), np.ones(200), groups)
    assert sure.high == 1
    assert 0.6 < sure.low < 0.75
    assert estimate_proportion(np.ones(20), np.ones(20), np.zeros(20))[:3] == (1.0, 0.0, 1.0)


def test_intervals_cover_when_groups_matter():
    rng = np.random.default_rng(0)
    covered = {True: 0, False: 0}
    groups = np.repeat(np.arange(15), 8)
    for _ in range(400):
        easy = rng.beta(2.4, 0.6, 15)  # mean 0.8, groups differ a lot
        right = rng.random(120) < easy[groups]
        for known in covered:
            found = estimate_proportion(right, np.ones(120), groups if known else None)
            covered[known] += found.low <= 0.8 <= found.high
    assert covered[True] >= binom.ppf(0.001, 400, 0.93)
    assert covered[False] < 0.85 * 400  # what ignoring groups would claim


def test_curve_at_the_most_shots_and_at_one():
    """Classes on a line far apart: one image is enough; and with no signal accuracy is chance."""
    labels = np.tile(np.arange(4), 12)
    features = torch.tensor(labels[:, None] * 10.0 + np.random.default_rng(0).random((48, 1)), dtype=torch.float32)
    groups = np.repeat(np.arange(12), 4)
    curve = measure_shots_curve(METHODS["protonet"].predict_among, features, labels, groups, n_draws=10)
    assert curve.shots == (1, 2, 4, 8, 11)
    assert [p.mean for p in curve.points] == [1.0] * 5
    noise = torch.tensor(np.random.default_rng(1).normal(size=(48, 6)), dtype=torch.float32)
    flat = measure_shots_curve(METHODS["protonet"].predict_among, noise, labels, groups, n_draws=30)
    assert all(p.low < 0.25 < p.high for p in flat.points)


def test_queries_and_support_of_the_curve_share_no_group_and_queries_are_those_of_every_k():
    features, labels, groups = clouds(n=60, n_groups=9)
    features = torch.cat([features, torch.arange(60.0)[:, None]], 1)  # the last column tells the row
    calls = []

    def predict(features, support, support_labels, query, n_way):
        calls.append((features[support, -1].long(), support_labels, features[query, -1].long()))
        return METHODS["protonet"].predict_among(features, support, support_labels, query, n_way)

    curve = measure_shots_curve(predict, features, labels, groups, shots=(1, 2, 3), n_draws=12)
    assert len(calls) == 3
    previous = None
    for k, (support, support_labels, query) in zip((1, 2, 3), calls, strict=True):
        assert torch.equal(query, calls[0][2])
        for s, y, q in zip(support, support_labels, query, strict=True):
            assert not {groups[i] for i in s} & {groups[i] for i in q}
            assert np.array_equal(labels[s], y)
            assert np.bincount(y).tolist() == [k] * 3
            assert len(set(np.bincount(labels[q], minlength=3))) == 1
        if previous is not None:
            assert all(set(a.tolist()) <= set(b.tolist()) for a, b in zip(previous, support, strict=True))
        previous = support
    assert curve.asked.sum(1).tolist() == [calls[0][2].numel()] * 3
    again = measure_shots_curve(
        METHODS["protonet"].predict_among, features, labels, groups, shots=(1, 2, 3), n_draws=12
    )
    assert np.array_equal(curve.right, again.right)
    other = measure_shots_curve(
        METHODS["protonet"].predict_among, features, labels, groups, shots=(1, 2, 3), n_draws=12, seed=1
    )
    assert not np.array_equal(curve.asked, other.asked)


def test_four_images_a_class_measure_up_to_three():
    features, labels = torch.randn(32, 4, generator=torch.Generator().manual_seed(0)), np.repeat(np.arange(8), 4)
    curve = measure_shots_curve(METHODS["protonet"].predict_among, features, labels, n_draws=5)
    assert curve.shots == (1, 2, 3)
    assert curve.limited_by == tuple(range(8))
    with pytest.raises(DataError, match="between 1 and 3"):
        measure_shots_curve(METHODS["protonet"].predict_among, features, labels, shots=(1, 4), n_draws=5)


def test_photographs_that_cannot_be_divided_are_refused():
    with pytest.raises(DataError, match="groups"):
        measure_shots_curve(METHODS["protonet"].predict_among, torch.zeros(4, 1), [0, 0, 1, 2], list("abab"), n_draws=5)


def law_curve(a: float, b: float, c: float, shots=(1, 2, 4, 8, 16), n: int = 4000):
    """A curve that lies on the law, with `n` images each asked once for every k."""
    k = np.array(shots, float)
    means = a - b * k**-c
    right = (np.arange(n)[None] < np.rint(means * n)[:, None]).astype(float)
    right = right[:, np.random.default_rng(0).permutation(n)]
    asked = np.ones_like(right)
    points = tuple(estimate_proportion(r, q) for r, q in zip(right, asked, strict=True))
    return ShotsCurve(tuple(shots), points, right, asked, np.arange(n), (0,))


@pytest.mark.parametrize(("a", "b", "c"), [(0.95, 0.6, 0.5), (0.8, 0.3, 1.0), (1.0, 0.5, 0.2), (0.6, 0.0, 1.0)])
def test_the_law_is_found_again(a, b, c):
    k = np.array([1, 2, 4, 8, 16.0])
    found = fit_laws(k, (a - b * k**-c)[None])[0]
    at = np.array([1, 16, 64.0])
    assert found[0] - found[1] * at ** -found[2] == pytest.approx(a - b * at**-c, abs=2e-3)


def test_laws_stay_possible():
    found = fit_laws(np.array([1, 2, 4.0]), np.array([[0.2, 0.5, 1.0], [0.9, 0.8, 0.7]]))
    assert (found[:, 0] <= 1).all()
    assert (found[:, 1] >= 0).all()
    assert found[1, :2] == pytest.approx([0.8, 0.0])  # a falling curve: no gain from more images


def test_how_many_images_for_an_accuracy():
    found = extrapolate(law_curve(0.95, 0.6, 0.5), (0.6, 0.85, 0.93, 0.99), n_boots=300)
    answers = {answer.accuracy: answer for answer in found.answers}
    assert answers[0.6].n_shots == 4  # 0.65 was measured there
    assert "reached" in answers[0.6].sentence
    assert answers[0.85].n_shots == pytest.approx(36, abs=2)  # (0.6 / 0.1)²
    assert answers[0.93].n_shots is None  # (0.6 / 0.02)² = 900 lies beyond 4 * 16
    assert "64" in answers[0.93].sentence
    assert answers[0.99].n_shots is None
    assert found.shots[-1] == 64
    assert (found.low <= found.mean + 0.02).all()
    assert (found.high >= found.mean - 0.02).all()


def test_few_images_make_no_promises():
    small = extrapolate(law_curve(0.95, 0.6, 0.5, (1, 2, 4), n=25), (0.85,), n_boots=300)
    assert small.answers[0].n_shots is None
    assert "uncertain" in small.answers[0].sentence or "beyond" in small.answers[0].sentence
    level = extrapolate(law_curve(0.7, 0.3, 2.0), (0.9,), n_boots=300)
    assert "levels out near 70%" in level.answers[0].sentence
    short = extrapolate(law_curve(0.95, 0.6, 0.5, (1, 2)), (0.5, 0.85))
    assert short.law is None
    assert [answer.n_shots for answer in short.answers] == [2, None]
    assert "3 are needed" in short.answers[1].sentence


def points(n_classes=4, n=6, seed=0):
    """Features of clear classes, one corner of a simplex each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), n)
    return torch.from_numpy(3 * np.eye(n_classes)[labels] + rng.normal(0, 0.3, (len(labels), n_classes))), labels


def test_a_planted_label_is_the_first_suspect():
    features, truth = points()
    labels = truth.copy()
    labels[8] = 3  # one of class 1
    predict = create_method("protonet", None).predict_among
    similarity = measure_likeness(create_method("protonet", None), features)
    estimate = predict_left_out(predict, features, labels)
    (suspect,) = find_suspects(estimate, labels, similarity)
    assert (suspect.row, suspect.label, suspect.likeliest) == (8, 3, 1)
    assert suspect.own < 0.1 < 0.5 < suspect.best
    assert {truth[row] for row in suspect.nearest} == {1}
    assert 8 not in suspect.nearest
    assert find_suspects(predict_left_out(predict, features, truth), truth, similarity) == []
    score, probabilities = score_labels(estimate, labels, similarity)
    assert score.argmin() == 8
    assert probabilities.sum(1) == pytest.approx(1)


def test_a_class_that_nothing_tests_has_no_suspect():
    features, labels = points()
    labels[-6:] = 0
    labels[-1] = 3  # alone in its class
    estimate = predict_left_out(create_method("protonet", None).predict_among, features, labels)
    score, _ = score_labels(estimate, labels, features @ features.T)
    assert score[-1] == np.inf
    assert np.isfinite(score[:-1]).all()


def test_suspects_are_described_with_those_they_are_like():
    suspect = Suspect(2, 0, 1, 0.031, 0.9, (5, 4))
    (finding,) = describe_suspects([suspect], [f"c/{n}.jpg" for n in range(6)], ["1 euro", "2 euro"])
    assert finding.flagged == (
        Flagged(("c/2.jpg",), "its folder says 1 euro (3%), the others say 2 euro (90%)", ("c/5.jpg", "c/4.jpg")),
    )
    assert finding.sentence.startswith("1 photograph looks like another class: see whether it lies in")
    assert describe_suspects([], [], []) == []


def test_large_folders_are_left_out_in_parts_and_solved_in_bounded_memory(monkeypatch):
    """Each part is predicted from the others; every class is in several parts; the solver sees few folds at once."""
    assert [limit_fits(n, n) for n in (10, 464, 500, 5000)] == [10, 464, 400, 10]
    monkeypatch.setattr("fewshot.photographs.inspection.learning_curve.MOST_PAIRS", 1)
    labels = np.repeat([0, 1, 2], [30, 10, 2])
    features = torch.randn(42, 4, generator=torch.Generator().manual_seed(0))
    seen = []

    def predict(features, support, support_labels, query, n_way):
        seen.extend(support_labels)
        return torch.zeros(*query.shape[:2], n_way)

    estimate = predict_left_out(predict, features, labels)
    assert estimate.n_parts == len(seen) == 10
    left_out = torch.stack([row == -1 for row in seen])
    assert left_out.any(0).all()
    assert all(set(row[row >= 0].tolist()) == {0, 1, 2} for row in seen)
    assert measure_shots_curve(predict, features, labels, n_draws=100).asked.sum() <= 10 * 3 * len(features)


def test_the_solver_takes_many_episodes_in_parts(monkeypatch):
    x = torch.randn(7, 6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 2]).expand(7, -1)
    whole = softmax_regression.fit_softmax_regression(x, labels, 3)
    sizes, solve = [], softmax_regression._newton
    monkeypatch.setattr(
        softmax_regression, "_newton", lambda problem: sizes.append(len(problem.gram)) or solve(problem)
    )
    monkeypatch.setattr(softmax_regression, "MOST_BYTES", 8 * 6 * 9 * 3)
    parts = softmax_regression.fit_softmax_regression(x, labels, 3)
    assert sizes == [3, 3, 1]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)


def test_many_photographs_of_few_features_need_no_gram_matrix(monkeypatch):
    """The same minimum as on the Gram matrix, which the features decide when zeros are appended to them."""
    x = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.arange(40).remainder(3).expand(2, -1)
    kinds, solve = [], softmax_regression._newton
    monkeypatch.setattr(softmax_regression, "_newton", lambda part: kinds.append(type(part.gram)) or solve(part))
    weight, bias = softmax_regression.fit_softmax_regression(x, labels, 3)
    padded = torch.nn.functional.pad(x, (0, 37))
    whole, whole_bias = softmax_regression.fit_softmax_regression(padded, labels, 3)
    assert kinds == [softmax_regression._Factored, torch.Tensor]
    torch.testing.assert_close(weight, whole[..., :3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bias, whole_bias, rtol=1e-4, atol=1e-5)
