"""The photo case: its stages run on the stand-in, and on the photos it reaches what it promises."""

import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import case.__main__
import case.service
from case import photos, stages, weights
from case.report import Report
from masslib import data

ROOT = Path(__file__).resolve().parent.parent
STAGES = [
    "Shards",
    "Training on two workers",
    "Compression to int8",
    "The rival: trained small, from scratch",
    "A threshold for what mistakes cost",
    "Photos that it was not made for",
    "Package",
    "Service",
    "Night falls: noticed, corrected, learned",
]


def random_photos(n, size=16):
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size, 3)).astype(np.uint8)
    return data.from_arrays(pixels, np.arange(n) % 2, classes=photos.CLASSES)


def run(folder, *arguments, **environment):
    """`python -m case` in a process of its own; what the report says, for programs."""
    command = [sys.executable, "-m", "case", "--to", str(folder), *arguments]
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=1500)
    assert ran.returncode == 0, ran.stdout + ran.stderr + (folder / "case.log").read_text()[-3000:]
    assert ran.stderr == "" and len(ran.stdout.splitlines()) == len(STAGES) + 1, "a line per stage, and one in the end"
    report = json.loads((folder / "report.json").read_text())
    return report | {"stages": {stage["name"]: stage for stage in report["stages"]}}


def test_the_threshold_is_the_one_that_costs_least():
    probabilities, y = np.array([0.1, 0.2, 0.3, 0.4, 0.9]), np.array([0, 0, 1, 0, 1])
    limit = stages.cheapest(probabilities, y)
    assert 0.2 < limit < 0.3  # one of the unwanted comes through, which is cheaper than to lose one
    assert stages.cost(probabilities >= limit, y) == pytest.approx(stages.COST_LET_THROUGH / 5)
    assert stages.cost(probabilities >= 0.5, y) == pytest.approx(stages.COST_LOST / 5)
    assert stages.cheapest(np.array([0.2, 0.8]), [0, 1]) == pytest.approx(0.5)


def test_hard_photos_are_of_all_kinds_and_the_same_each_time():
    test = random_photos(40)
    subset, kinds = photos.hard(test)
    again, _ = photos.hard(test)
    np.testing.assert_array_equal(subset.rows.raw(slice(None)), again.rows.raw(slice(None)))
    assert list(dict.fromkeys(kinds)) == [
        "screens", "patterns", "drawings of flowers", "turned by 90 degrees", "at night", "grey",
        "small on a white ground",
    ]  # fmt: skip
    y = np.asarray(subset.y)
    assert not y[np.isin(kinds, ["screens", "patterns", "drawings of flowers"])].any()
    assert y[kinds == "grey"].mean() == 0.5
    x = subset.rows.raw(slice(None))
    assert x[kinds == "at night"].mean() < 0.4 * x[kinds == "turned by 90 degrees"].mean()
    assert np.ptp(x[kinds == "grey"].astype(int), axis=-1).max() == 0
    assert (x[kinds == "small on a white ground"][:, 0] == 255).all()


def test_a_photo_that_lies_in_its_file_stands_up_by_its_exif_tag():
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8, :, 0] = 200  # the upper half is red
    lying = Image.open(io.BytesIO(case.service.turned_jpeg(pixels)))
    assert np.abs(np.asarray(lying).astype(int) - pixels).max() > 100
    assert np.abs(np.asarray(ImageOps.exif_transpose(lying)).astype(int) - pixels).mean() < 5
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(case.service.png(pixels)))), pixels)


def as_torch_writes(monkeypatch, arrays):
    """The bytes of `torch.save(..., _use_new_zipfile_serialization=False)`, without PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    storage = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2():
        raise AssertionError("a reader calls nothing")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.FloatStorage, utils._rebuild_tensor_v2, torch._utils = storage, _rebuild_tensor_v2, utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Key(str):
        pass

    class Tensor:
        def __init__(self, key, array):
            self.key, self.array = Key(key), array

        def __reduce__(self):
            strides = tuple(stride // 4 for stride in self.array.strides)
            return _rebuild_tensor_v2, (self.key, 0, self.array.shape, strides, False, collections.OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", storage, str(value), "cpu", 0, None) if isinstance(value, Key) else None

    stream = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        Pickler(stream, 2).dump(part)
    Pickler(stream, 2).dump(collections.OrderedDict((name, Tensor(name, array)) for name, array in arrays.items()))
    Pickler(stream, 2).dump(list(arrays))
    for array in arrays.values():
        stream.write(struct.pack("<q", array.size) + array.tobytes(order="A"))
    return stream.getvalue()


def test_tensors_are_read_in_any_layout(monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {"a": rng.random((2, 3, 4), np.float32), "b": np.asfortranarray(rng.random((5, 6), np.float32))}
    found = weights.tensors(as_torch_writes(monkeypatch, arrays))
    assert list(found) == ["a", "b"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


class Calls:
    def __reduce__(self):
        return os.system, ("false",)


def test_a_pickle_that_calls_something_is_refused(tmp_path):
    with pytest.raises(pickle.UnpicklingError, match="system does not belong in a file of weights"):
        weights.tensors(pickle.dumps(Calls(), 2))
    file = tmp_path / "other.pth"
    file.write_bytes(pickle.dumps(Calls(), 2))
    with pytest.raises(ValueError, match="its SHA-256 differs"):
        weights.read(file)


def test_the_report_says_what_was_found(tmp_path):
    report = Report("Title", "About <photos>")
    with report.stage("One & two") as stage:
        stage.bytes, stage.figures = 1500, {"accuracy": 0.5, "low": 0.25, "high": 0.75}
        stage.found.append("less < more")
    report.write(tmp_path)
    text, page = ((tmp_path / f"report.{kind}").read_text() for kind in ("txt", "html"))
    assert "One & two: 0 s, 2 kB, test photos right: 50.00% [25.00%, 75.00%]" in text
    assert "less < more" in text and "less &lt; more" in page and "About &lt;photos&gt;" in page
    assert json.loads((tmp_path / "report.json").read_text())["stages"][0]["figures"]["accuracy"] == 0.5


def test_a_folder_with_other_things_in_it_stays_as_it_is(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(SystemExit, match="choose another folder"):
        case.__main__.main(["--to", str(tmp_path)])
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.alone
def test_all_stages_run_on_the_stand_in(tmp_path):
    nowhere = {"MASSLIB_DATA": "", "KERAS_HOME": str(tmp_path / "keras")}
    report = run(tmp_path / "case", "--rows", "200", "--epochs", "1", "--scratch", **nowhere)
    assert report["about"].startswith("A stand-in") and "from scratch" in report["about"]
    assert list(report["stages"]) == STAGES
    log = (tmp_path / "case" / "case.log").read_text()
    assert "worker 1 was killed by SIGKILL" in log
    assert (tmp_path / "case" / "models" / "garden" / "2" / "MODEL_CARD.md").is_file()


@pytest.mark.exhaustive
@pytest.mark.alone
@pytest.mark.skipif(not photos.is_at_hand(), reason="the photos of garden are not at hand; see docs/datasets.md")
@pytest.mark.skipif(weights.at_hand() is None, reason="the extra photos is not installed")
def test_the_photos_are_told_apart_in_little_time_by_a_small_file(tmp_path):
    report = run(tmp_path / "case")
    training, small, service = (report["stages"][STAGES[k]] for k in (1, 2, 7))
    assert training["figures"]["accuracy"] >= 0.985 and training["figures"]["low"] >= 0.975
    assert small["bytes"] <= 150_000
    assert small["figures"]["accuracy"] >= training["figures"]["accuracy"] - 0.003
    assert training["seconds"] <= 300 and report["seconds"] <= 900
    assert service["figures"]["p99_ms"] <= 20  # 6 with VNNI, 13 without; the aim is 10, see docs/case.md
