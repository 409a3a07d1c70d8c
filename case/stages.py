"""The stages, from the photos to the version that follows the first."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import masslib
from masslib import data
from masslib.packaging import Refused, Replaces

import keras
import numpy as np

from case import photos, service, training, weights
from case.report import Report

# What mistakes cost: a wanted photo that is thrown away hurts more than one that somebody has to remove later.
COST_LOST, COST_LET_THROUGH = 5, 1
# Photos that people correct at night, which the next version learns from
CORRECTED = 300
_BEGINNINGS = {
    "pretrained": "The network begins with weights of ImageNet.",
    "residual": "The network is trained from scratch, without the weights of ImageNet (pip install 'masslib[photos]').",
}


def run(folder: Path, rows: int | None, size: int | None, epochs: int, scratch: bool) -> Report:
    """Run all stages in a folder, and write the report into it.

    Args:
        folder: An empty one.
        rows: Training photos, all by default.
        size: Height and width of the photos; by default 64, and 32 of the stand-in.
        epochs: Passes over them.
        scratch: Whether to leave the weights of ImageNet aside.
    """
    splits, about = photos.load(rows, size)
    kind = "pretrained" if weights.at_hand() and not scratch else "residual"
    report = Report("The photo case", f"{about} {_BEGINNINGS[kind]}")
    shards(report, folder, splits)
    model = train(report, folder, splits, kind, epochs)
    small = compress(report, folder, model, splits)
    rival(report, folder, splits, epochs)
    threshold(report, folder / "int8.tflite", splits)
    hard(report, folder / "int8.tflite", splits)
    package(report, folder, small, splits)
    answer(report, folder, splits)
    follow(report, folder, splits)
    report.write(folder)
    return report


def shards(report: Report, folder: Path, splits: data.Splits) -> None:
    """Write the photos as shards, in two processes."""
    with report.stage("Shards") as stage:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for name, part in (("train", splits.train), ("valid", splits.valid)):
                data.write_shards(part, folder / "shards" / name, shards=4, on=pool)
        stage.bytes = sum(file.stat().st_size for file in (folder / "shards").rglob("*") if file.is_file())
        counts = [f"{len(part):,}" for part in (splits.train, splits.valid, splits.test)]
        stage.found.append(f"{counts[0]} photos to train, {counts[1]} to choose, {counts[2]} to test")
        stage.found.append(f"{' x '.join(map(str, splits.input_shape))}, in 8 files, written by two processes")


def train(report: Report, folder: Path, splits: data.Splits, kind: str, epochs: int) -> keras.Model:
    """Train on two workers, one of which is killed half-way."""
    with report.stage("Training on two workers") as stage:
        model, accuracies = training.together(folder / "shards", kind, epochs, folder / "float.keras", dies=True)
        stage.bytes = (folder / "float.keras").stat().st_size
        stage.judged(masslib.evaluate(model, splits.test))
        stage.found.append(f"{model.name}: {model.count_params():,} weights, {epochs} epochs")
        stage.found.append("worker 1 was killed half-way; both went on from the checkpoint")
        told = ", ".join(f"{accuracy:.1%}" for accuracy in accuracies)
        stage.found.append(f"validation photos right after each epoch: {told}")
    return model


def compress(report: Report, folder: Path, model: keras.Model, splits: data.Splits) -> masslib.Compressed:
    """Write the network as int8, and packed."""
    with report.stage("Compression to int8") as stage:
        small = masslib.compress(model, masslib.Quantize("int8"), splits.train, verbose=False)
        file = masslib.export.tflite(small, folder / "int8.tflite", labels=splits.classes)
        packed = masslib.export.packed(small, folder / "int8.packed", labels=splits.classes)
        stage.bytes = zipped(file)
        stage.judged(masslib.evaluate(file, splits.test))
        stage.found.append(f"bytes are those of gzip; {file.stat().st_size / 1e3:.0f} kB as TFLite, ")
        stage.found[-1] += f"{packed.stat().st_size / 1e3:.0f} kB packed"
    return small


def rival(report: Report, folder: Path, splits: data.Splits, epochs: int) -> None:
    """Train a network of about that size from scratch, for as many epochs."""
    with report.stage("The rival: trained small, from scratch") as stage:
        model, _ = training.together(folder / "shards", "residual", epochs, folder / "small.keras", width=12)
        small = masslib.compress(model, masslib.Quantize("int8"), splits.train, verbose=False)
        file = masslib.export.tflite(small, folder / "small.tflite", labels=splits.classes)
        stage.bytes = zipped(file)
        stage.judged(masslib.evaluate(file, splits.test))
        stage.found.append(f"{model.name}: {model.count_params():,} weights, int8 as well")


def threshold(report: Report, file: Path, splits: data.Splits) -> None:
    """Choose on validation photos from which probability on a photo is kept, and tell what it costs on test photos."""
    with report.stage("A threshold for what mistakes cost") as stage, masslib.runtime.load(file) as predictor:
        valid, test = (predictor.predict(part[:][0])[:, photos.WANTED] for part in (splits.valid, splits.test))
        best = cheapest(valid, splits.valid.y)
        stage.found.append(f"a wanted photo lost costs {COST_LOST}, an unwanted one let through {COST_LET_THROUGH}")
        for name, limit in (("0.5", 0.5), (f"{best:.3f}, chosen on validation photos", best)):
            costs = 1000 * cost(test >= limit, splits.test.y)
            stage.found.append(f"threshold {name}: {costs:.1f} per 1,000 test photos")
        stage.figures["threshold"] = best


def cheapest(probabilities: np.ndarray, y: Iterable[int]) -> float:
    """The threshold with the least cost; of several the one in the middle, which other photos upset least."""
    tried = np.unique(np.concatenate([probabilities, [0.0, 1.0]]))
    tried = (tried[1:] + tried[:-1]) / 2
    costs = np.array([cost(probabilities >= limit, y) for limit in tried])
    best = np.flatnonzero(costs == costs.min())
    return float(tried[best[len(best) // 2]])


def cost(kept: np.ndarray, y: Iterable[int]) -> float:
    """What the mistakes cost per photo."""
    wanted = np.asarray(y) == photos.WANTED
    return float(np.mean(COST_LOST * (wanted & ~kept) + COST_LET_THROUGH * (~wanted & kept)))


def hard(report: Report, file: Path, splits: data.Splits) -> None:
    """Judge photos that the network was not made for, kind by kind."""
    with report.stage("Photos that it was not made for") as stage:
        subset, kinds = photos.hard(splits.test)
        judged = masslib.evaluate(file, subset, slices={name: kinds == name for name in dict.fromkeys(kinds)})
        for name, part in judged.slices.items():
            low, high = part.accuracy_interval
            stage.figures[name] = part.accuracy
            stage.found.append(f"{name}: {part.accuracy:.1%} [{low:.1%}, {high:.1%}] right")


def package(report: Report, folder: Path, small: masslib.Compressed, splits: data.Splits) -> None:
    """Write version 1 with its card, and hand it to the service."""
    with report.stage("Package") as stage:
        packaged(small, folder, 1, splits)
        files = sorted((folder / "models" / service.NAME / "1").iterdir())
        stage.bytes = sum(file.stat().st_size for file in files)
        stage.found.append(", ".join(file.name for file in files))


def packaged(
    small: masslib.Compressed, folder: Path, version: int, splits: data.Splits, replaces: Replaces | None = None
) -> None:
    """Write a package and put it where the service looks for new versions."""
    made = masslib.package(
        small, folder / "packages" / str(version), splits, replaces=replaces, verbose=False,
        description="Tells photos of flowers from photos of clothes for sale.",
        limitations="Not for photos of anything else, and not to judge people.",
    )  # fmt: skip
    service.put(made, folder / "models", version)


def answer(report: Report, folder: Path, splits: data.Splits) -> None:
    """Serve it on one core, and send it the test photos from another."""
    with report.stage("Service") as stage:
        test = splits.test
        files = [service.png(photo) for photo in test.rows.raw(slice(None))]
        turned = [service.turned_jpeg(photo) for photo in test.rows.raw(slice(None))]
        with service.on_core(0):
            server = masslib.serve(folder / "models")
        with server:
            service.ask(server, files[:200])  # warm
            answers, times = service.ask(server, files)
            exif, _ = service.ask(server, turned)
        p50, p99 = np.quantile(times, [0.5, 0.99]).tolist()
        stage.figures |= {"p50_ms": p50, "p99_ms": p99}
        stage.found.append(
            f"{len(files):,} PNG photos on {service.CLIENTS} connections, on one core, from file to answer: "
            f"{p50:.1f} ms at the median, {p99:.1f} ms at the 99th percentile; {service.right(answers, test):.1%} right"
        )
        stage.found.append(f"as JPEG, stored lying with EXIF's word for it: {service.right(exif, test):.1%} right")


def follow(report: Report, folder: Path, splits: data.Splits) -> None:
    """Let night fall: notice it, take what people correct, train the next version on it, and swap it in."""
    day = splits.valid.sample(min(len(splits.valid), CORRECTED), seed=1)
    dark, test = at_night(day), at_night(splits.test.sample(min(len(splits.test), 600), seed=1))
    seen, unseen = ([service.png(photo) for photo in part.rows.raw(slice(None))] for part in (dark, test))
    records = folder / "answers.sqlite"
    with (
        report.stage("Night falls: noticed, corrected, learned") as stage,
        masslib.serve(folder / "models", record=str(records), drift_window=600.0) as server,
    ):
        answers, _ = service.ask(server, seen)
        told = ", ".join(f"{name} {psi:.2f}" for name, psi in service.drifts(server).items())
        service.correct(server, answers, dark)
        before, _ = service.ask(server, unseen)
        stage.figures["night"] = service.right(before, test)
        feedback = data.from_records(records, model=service.NAME)
        stage.found.append(f"population stability index: {told}; {len(feedback)} photos were corrected")
        model = training.next_version(folder / "float.keras", splits.train, feedback, 2)
        small = masslib.compress(model, masslib.Quantize("int8"), splits.train, verbose=False)
        try:
            packaged(small, folder, 2, splits, Replaces(folder / "packages" / "1", on={"night": test}))
        except Refused as error:  # the first version goes on answering
            stage.found.append(f"version 2 was refused: {error}")
            return
        server.wait(service.NAME, 2)
        after, _ = service.ask(server, unseen)
        stage.judged(masslib.evaluate(folder / "packages" / "2" / "int8.tflite", splits.test))
        stage.figures["night_again"] = service.right(after, test)
        stage.found.append(
            f"other photos at night: {stage.figures['night']:.1%} right by version {before[0]['version']}, "
            f"{stage.figures['night_again']:.1%} by version {after[0]['version']}, which took over without a pause"
        )
        stage.found.append("the test photos above are by day: version 2 has not forgotten them")


def at_night(subset: data.Subset) -> data.Subset:
    """The same photos, at night."""
    pixels = photos.night(subset.rows.raw(slice(None)))
    return data.from_arrays(pixels, np.asarray(subset.y), classes=subset.classes)


def zipped(file: Path) -> int:
    """Bytes of a file in gzip."""
    return len(gzip.compress(file.read_bytes(), 9))
