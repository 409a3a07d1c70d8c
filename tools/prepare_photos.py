"""Makes the small photographs that `masslib.data.load` reads of the archives as they were published.

    python tools/prepare_photos.py flowers flower_photos.tgz --to DIR
    python tools/prepare_photos.py clothing --to DIR       # downloads the archive

Writes `photos_flowers/` or `photos_clothing/` into DIR, which the environment variable `MASSLIB_DATA` then names: a zip
of JPEG files and the table of their classes, sides and people. Each photo is turned as its EXIF entry says, cropped to
the square in its middle, resized to 96 x 96 (Lanczos) and saved as JPEG of quality 80 without metadata. A fifth is for
the test, by person. Licences, attribution and what was left out: docs/datasets.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import re
import shutil
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image, ImageOps

from masslib._util.files import replacing
from masslib.data.catalog import CATALOG
from masslib.data.sources import fingerprint

HOMES = {
    "flowers": "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
    "clothing": "https://github.com/alexeygrigorev/clothing-dataset/archive/7ed86a9cc56763b6acb35e41cb35184e43a5d218.zip",
}
SIZE, QUALITY, TEST = 96, 80, 0.2
NO_KIND = {"Not sure", "Other", "Skip"}
CREDIT = re.compile(r"(\S+\.jpg) CC-BY (?:by (?P<who>.+) - (?P<url>\S+)|(?P<url2>\S+) - by (?P<who2>.+))")
# Three exact duplicates, and 41 photos with a recognisable face
LEFT_OUT = set(
    """
roses/15822837396_96b392fda8_m roses/15922772266_1167a06620 roses/18741313803_1bbf842fc6_n
roses/4243078361_7b92a932cd_n roses/4731069260_b270f47803_n roses/9406573080_60eab9278e_n
sunflowers/15066430311_fb57fa92b0_m sunflowers/15072973261_73e2912ef2_n sunflowers/19784656639_cd7f0a4a26_m
sunflowers/20148493928_9f75a99783 sunflowers/215798352_184d8040d1 sunflowers/215798354_429de28c2d
sunflowers/215798357_3f4bfa27b7 sunflowers/2694860538_b95d60122c_m sunflowers/2759796022_55bd47bfa2_n
sunflowers/2944298800_1984bd4f8a_m sunflowers/2979297519_17a08b37f6_m sunflowers/3001536784_3bfd101b23_n
sunflowers/3838274225_36010c6254_n sunflowers/3950020811_dab89bebc0_n sunflowers/40410686_272bc66faf_m
sunflowers/4933228903_9ae82d0b9d sunflowers/4933229095_f7e4218b28 sunflowers/4933229197_ff75a40d55
sunflowers/4933229479_c1708bd503 sunflowers/4933229561_881d4673e7_m sunflowers/4933229889_c5d9e36392
sunflowers/4933230161_12f3ee7587 sunflowers/4933230247_a0432f01da sunflowers/4933821940_38064522a8
sunflowers/4933822052_2dfef02517 sunflowers/4933822272_79af205b94 sunflowers/4933822422_4f54fc7cc8
sunflowers/4933823194_33f6e32c5a sunflowers/4933823300_39fd4420b6 sunflowers/5037531593_e2daf4c7f1
sunflowers/5037790727_57c527494f sunflowers/5437996076_cf7e2ac32e_n sunflowers/7176729812_7c053921fb_m
sunflowers/9497774249_7f5ae70927_m tulips/14127532150_112823a8f6 tulips/16907559551_05ded87fb2_n
tulips/3540595981_73f14d1227_n tulips/7082476907_99beef0dde
""".split()  # noqa: SIM905
)


def main() -> int:
    """Packs one archive; exit code 1 if the rows are not those that `load` knows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(HOMES))
    parser.add_argument("archive", nargs="?", type=Path, help="a .tgz or .zip; downloaded where it is left out")
    parser.add_argument("--to", type=Path, required=True, help="folder that gets the folder of the set")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        archive = options.archive or downloaded(HOMES[options.name], Path(scratch))
        photos, texts = unpacked(archive)
    table = flowers(photos, texts) if options.name == "flowers" else clothing(photos, texts)
    (form,) = CATALOG[options.name].forms
    paths = [options.to / file.name for file in form.files]
    written(photos, table, *paths)
    found, known = fingerprint(form.read(paths)), CATALOG[options.name].sha256
    print(f"{len(table) - 1} photos in {paths[0]}")
    if found != known:
        print(f"These are not the rows that load({options.name!r}) knows: SHA-256 {found}, expected {known}.")
    return int(found != known)


def downloaded(url: str, folder: Path) -> Path:
    """Fetches one file."""
    target = folder / url.rsplit("/", 1)[1]
    with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as file:
        shutil.copyfileobj(answer, file)
    return target


def unpacked(archive: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """The photos, small, by the last two parts of their names, and the texts by the last."""
    photos, texts = {}, {}
    for name, data in members(archive):
        parts = name.split("/")
        if name.lower().endswith((".jpg", ".jpeg")) and len(parts) > 1:
            photos["/".join(parts[-2:])] = small(data)
        elif name.endswith((".txt", ".csv")):
            texts[parts[-1]] = data.decode("utf-8")
    return photos, texts


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a zip or tar, in the order in which they lie there."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield from ((name, file.read(name)) for name in file.namelist() if not name.endswith("/"))
        return
    with tarfile.open(archive) as file:
        for member in file:
            if member.isfile():
                yield member.name, file.extractfile(member).read()


def small(data: bytes) -> bytes:
    """One photo, cropped and resized."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        square = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (SIZE, SIZE), Image.Resampling.LANCZOS)
    result = io.BytesIO()
    square.save(result, "JPEG", quality=QUALITY)
    return result.getvalue()


def flowers(photos: dict[str, bytes], texts: dict[str, str]) -> list[tuple[str, ...]]:
    """The table of the flowers: the names of the archive's folders, and the photographers of its LICENSE.txt."""
    credits = {}
    for line in texts["LICENSE.txt"].splitlines():
        if match := CREDIT.fullmatch(line.strip()):
            who, url = match["who"] or match["who2"], match["url"] or match["url2"]
            credits[match[1]] = " ".join(who.split()), url
    names = sorted(name for name in photos if name in credits and name.removesuffix(".jpg") not in LEFT_OUT)
    sides = split([credits[name][0] for name in names])
    rows = [
        (name, name.split("/")[0], side, *credits[name], "CC BY 2.0") for name, side in zip(names, sides, strict=True)
    ]
    return [("file", "class", "split", "photographer", "url", "licence"), *rows]


def clothing(photos: dict[str, bytes], texts: dict[str, str]) -> list[tuple[str, ...]]:
    """The table of the garments, whose photos get the names of their classes as folders."""
    lines = [line for line in csv.DictReader(io.StringIO(texts["images.csv"])) if line["label"] not in NO_KIND]
    rows = []
    for line in lines:
        photo = photos.pop(f"images/{line['image']}.jpg", None)
        if photo is not None:
            kind = line["label"].lower()
            photos[f"{kind}/{line['image']}.jpg"] = photo
            rows.append((f"{kind}/{line['image']}.jpg", kind, line["sender_id"], str(int(line["kids"] == "True"))))
    rows.sort()
    sides = split([sender for _, _, sender, _ in rows])
    rows = [(name, kind, side, *rest) for (name, kind, *rest), side in zip(rows, sides, strict=True)]
    return [("file", "class", "split", "sender_id", "kids"), *rows]


def split(people: list[str]) -> list[str]:
    """Says "test" for a fifth of the rows, people at random, but for those with more than a twentieth of all."""
    counts = Counter(people)
    order = sorted(counts)
    random.Random(0).shuffle(order)
    test, rows = set(), 0
    for who in order:
        if rows >= TEST * len(people):
            break
        if counts[who] <= len(people) / 20:
            test.add(who)
            rows += counts[who]
    return ["test" if who in test else "train" for who in people]


def written(photos: dict[str, bytes], table: list[tuple[str, ...]], archive: Path, list_: Path) -> None:
    """Writes the zip and the table, whole."""
    with replacing(archive) as partial, zipfile.ZipFile(partial, "w") as file:
        for name, *_ in table[1:]:
            file.writestr(zipfile.ZipInfo(name), photos[name])  # of one date, so that the same photos are the same zip
    with replacing(list_) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    sys.exit(main())
