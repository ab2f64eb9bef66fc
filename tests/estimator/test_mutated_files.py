"""Three hundred mutations of a classifier's file: each loads and answers, or is refused in one sentence."""

import copy
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot import FewShotClassifier
from fewshot.errors import CheckpointError

ODD: list[Any] = [
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**30, "", "x" * 1000, "../../x", [], {}, [[[[]]]], "\ud800",
    {"__tensor__": "nope"}, {"__pairs__": [[1, 2]]}, 1.5, "cuda:9", 2**31, -(2**63),
]  # fmt: skip
DTYPES = ["F16", "I64", "U8", "BOOL", "F64", "XX", None]
SHAPES = [[], [0], [-1], [10**18], [1, 2, 3], None]
IMAGES = [np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8) for i in range(4)]


def pack(header: dict[str, Any] | str, body: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + body


def list_places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*place, key)
        yield from list_places(value[key], (*place, key))


def mutate(data: bytes, seed: int) -> Iterator[bytes]:
    """Change, remove or add keys and tensors, flip bits, cut the file."""
    draw = random.Random(seed)
    n = struct.unpack_from("<Q", data)[0]
    header, body = json.loads(data[8 : 8 + n]), data[8 + n :]
    state = json.loads(header["__metadata__"]["state"])
    places = [place for place in list_places(state) if len(place) < 5]

    def with_state(text: str) -> bytes:
        return pack(header | {"__metadata__": header["__metadata__"] | {"state": text}}, body)

    for _ in range(160):
        changed, place = copy.deepcopy(state), draw.choice(places)
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        if draw.random() < 0.25:
            del parent[place[-1]]
        else:
            parent[place[-1]] = draw.choice(ODD)
        yield with_state(json.dumps(changed))
    names = [name for name in header if name != "__metadata__"]
    for _ in range(60):
        changed, name = copy.deepcopy(header), draw.choice(names)
        kind = draw.choice(["dtype", "shape", "data_offsets", "missing", "extra"])
        if kind == "missing":
            del changed[name]
        elif kind == "extra":
            changed["extra"] = changed[name]
        else:
            values = {"dtype": DTYPES, "shape": SHAPES, "data_offsets": [[0, 0], [5, 1], [0, 10**12], None]}[kind]
            changed[name][kind] = draw.choice(values)
        yield pack(changed, body)
    for _ in range(50):
        flipped = bytearray(data)
        for _ in range(draw.choice([1, 1, 3, 20])):
            flipped[draw.randrange(8 + n)] ^= 1 << draw.randrange(8)
        yield bytes(flipped)
    yield from (data[: draw.randrange(len(data))] for _ in range(30))
    yield from (b"", struct.pack("<Q", 2**62) + b"{", with_state("[" * 10**5 + "]" * 10**5))
    yield from (with_state('{"a":' * 10**5 + "1" + "}" * 10**5), with_state('{"options":1}'), pack("[]", b""))


@pytest.mark.filterwarnings("ignore")  # NumPy's and torch's, of absurd numbers
@pytest.mark.parametrize("seed", [0, 1])
def test_each_mutation_is_answers_or_one_sentence(seed, tmp_path: Path):
    path = tmp_path / "model.fewshot"
    unfitted = FewShotClassifier("conv4", pretrained=False, size_px=16, backbone_options={"n_filters": 4})
    unfitted.fit(IMAGES, ["a", "a", "b", "b"]).save(path)
    data, sentences, answered = path.read_bytes(), [], 0
    for mutated in mutate(data, seed):
        path.write_bytes(mutated)
        try:
            shares = FewShotClassifier.load(path).predict_proba(IMAGES)
        except CheckpointError as error:
            sentences.append(str(error))
        else:
            assert shares.shape == (4, 2)
            np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
            answered += 1
    assert len(sentences) > 200
    assert not [text for text in sentences if "\n" in text or len(text) > 900]
    assert answered > 10
