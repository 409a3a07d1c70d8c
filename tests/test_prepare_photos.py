"""tools/prepare_photos.py: archives as they are published become what `load` reads."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import prepare_photos

TOOL = Path(prepare_photos.__file__)


def photo(colour: tuple[int, int, int], turned: bool = False) -> bytes:
    """A photo of 120 x 80 with white bars at its left and right, 20 pixels wide, that the crop takes off."""
    image = PIL.Image.new("RGB", (120, 80), "white")
    image.paste(colour, (20, 0, 100, 80))
    exif, data = PIL.Image.Exif(), io.BytesIO()
    if turned:
        image, exif[0x0112] = image.rotate(90, expand=True), 6
    image.save(data, "JPEG", exif=exif, quality=95)
    return data.getvalue()


def packed(name: str, archive: Path, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, TOOL, name, archive, "--to", folder]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def colours(archive: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(archive) as photos:
        images = {name: PIL.Image.open(io.BytesIO(photos.read(name))) for name in photos.namelist()}
    assert all(image.size == (96, 96) and not image.getexif() for image in images.values())
    return {name: np.asarray(image).reshape(-1, 3) for name, image in images.items()}


def test_flowers(tmp_path):
    lines = [f"daisy/{k}.jpg CC-BY by some  one {k // 2} - https://a.b/{k}/" for k in range(20)]
    lines[5] = "daisy/5.jpg CC-BY https://a.b/5/ - by some  one 2"
    lines.append("roses/15922772266_1167a06620.jpg CC-BY by a - https://a.b/c")  # left out: a face
    with tarfile.open(tmp_path / "flower_photos.tgz", "w:gz") as archive:
        files = {line.split(" ")[0]: photo((200, 100, 0)) for line in lines} | {
            "LICENSE.txt": "\n".join(lines).encode()
        }
        for name, data in files.items():
            info = tarfile.TarInfo(f"flower_photos/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    done = packed("flowers", tmp_path / "flower_photos.tgz", tmp_path / "out")
    assert done.returncode == 1 and "These are not the rows that load('flowers') knows" in done.stdout, done.stderr
    folder = tmp_path / "out" / "photos_flowers"
    images = colours(folder / "flowers96.zip")
    assert list(images) == sorted(f"daisy/{k}.jpg" for k in range(20))
    assert all(np.abs(pixels - np.array([200.0, 100, 0])).mean() < 8 for pixels in images.values())
    with (folder / "ATTRIBUTION.csv").open(newline="") as stream:
        table = {line["file"]: line for line in csv.DictReader(stream)}
    assert list(table) == list(images)
    assert table["daisy/5.jpg"]["photographer"] == table["daisy/4.jpg"]["photographer"] == "some one 2"
    assert table["daisy/5.jpg"]["url"] == "https://a.b/5/"


def test_clothing(tmp_path):
    lines = [f"id{k},{k % 7},{'T-Shirt' if k % 2 else 'Hat'},{k == 3}" for k in range(20)]
    lines += ["other,1,Not sure,False", "gone,1,Hat,False"]
    with zipfile.ZipFile(tmp_path / "clothing.zip", "w") as archive:
        archive.writestr("set-7ed/images.csv", "\n".join(["image,sender_id,label,kids", *lines]))
        for name in (*(f"id{k}" for k in range(20)), "other", "undescribed"):
            archive.writestr(f"set-7ed/images/{name}.jpg", photo((0, 100, 200), turned=name == "id4"))
    packed("clothing", tmp_path / "clothing.zip", tmp_path / "out")
    folder = tmp_path / "out" / "photos_clothing"
    images = colours(folder / "clothing96.zip")
    assert list(images) == sorted(f"{'t-shirt' if k % 2 else 'hat'}/id{k}.jpg" for k in range(20))
    assert all(np.abs(pixels - np.array([0.0, 100, 200])).mean() < 8 for pixels in images.values())
    with (folder / "labels.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [line["file"] for line in table if line["kids"] == "1"] == ["t-shirt/id3.jpg"]


def test_a_fifth_is_for_the_test_and_nobody_is_on_both_sides():
    people = [str(k % 90) for k in range(900)] + ["many"] * 200
    sides = prepare_photos.split(people)
    test = {who for who, side in zip(people, sides, strict=True) if side == "test"}
    train = {who for who, side in zip(people, sides, strict=True) if side == "train"}
    assert not test & train and "many" in train and sides.count("test") == 220


@pytest.mark.skipif(not os.environ.get("MASSLIB_DATA"), reason="MASSLIB_DATA does not name the folder of the data sets")
@pytest.mark.parametrize(
    "file, person", [("photos_flowers/ATTRIBUTION", "photographer"), ("photos_clothing/labels", "sender_id")]
)
def test_the_sides_are_those_of_the_real_tables(file, person):
    with Path(os.environ["MASSLIB_DATA"], f"{file}.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert prepare_photos.split([line[person] for line in lines]) == [line["split"] for line in lines]
