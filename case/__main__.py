"""Run the case: python -m case --help."""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import masslib
from masslib import data

import keras
import numpy as np

from case import photos, service, training, weights
from case.report import Report

# What mistakes cost: a wanted photo that is thrown away hurts more than one that somebody has to remove later.
COST_LOST, COST_LET_THROUGH = 5, 1


def main(arguments: list[str] | None = None) -> int:
    """Run all stages, each in a folder below `--to`, and write the report."""
    options = _options(arguments)
    folder: Path = options.to
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    splits, told = photos.load(options.rows, options.size)
    report = Report("The photo case", told)
    _shards(report, folder, splits)
    kind = "pretrained" if weights.at_hand() and not options.scratch else "residual"
    model = _train(report, folder, splits, kind, options.epochs)
    file = _compress(report, folder, model, splits, options.epochs)
    _threshold(report, file, splits)
    _hard(report, file, splits)
    _serve(report, folder, model, splits)
    report.write(folder)
    print(f"{report.seconds:.0f} s in all; the report is {folder / 'report.html'}")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m case", description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("build/case"), help="folder, emptied first (build/case)")
    parser.add_argument("--epochs", type=int, default=7, help="passes over the training photos (7)")
    parser.add_argument("--rows", type=int, help="training photos, all by default")
    parser.add_argument("--size", type=int, help="height and width of the photos (80; 32 of the stand-in)")
    parser.add_argument("--scratch", action="store_true", help="leave weights of ImageNet aside")
    return parser.parse_args(arguments)


def _shards(report: Report, folder: Path, splits: data.Splits) -> None:
    with report.stage("Shards") as found:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for name, part in (("train", splits.train), ("valid", splits.valid)):
                data.write_shards(part, folder / "shards" / name, shards=4, on=pool)
        size = sum(file.stat().st_size for file in (folder / "shards").rglob("*") if file.is_file())
        counts = [f"{len(part):,}" for part in (splits.train, splits.valid, splits.test)]
        found.append(f"{counts[0]} photos to train, {counts[1]} to choose, {counts[2]} to test")
        found.append(f"{size / 1e6:.0f} MB in 8 shards, written by two processes")


def _train(report: Report, folder: Path, splits: data.Splits, kind: str, epochs: int) -> keras.Model:
    with report.stage(f"Training, {kind}, two workers") as found:
        file = folder / "float.keras"
        told = training.together(folder / "shards", kind, epochs, file, dies=True)
        model = keras.models.load_model(file)
        judged = masslib.evaluate(model, splits.test)
        found.append(f"{model.count_params():,} weights, {epochs} epochs; worker 1 was killed half-way and went on")
        found.append(f"test {_share(judged)}")
        shares = ", ".join(f"{accuracy:.1%}" for accuracy in told["val_accuracy"])
        found.append(f"validation photos right after each epoch: {shares}")
    return model


def _compress(report: Report, folder: Path, model: keras.Model, splits: data.Splits, epochs: int) -> Path:
    with report.stage("Compression to int8, beside a network trained small") as found:
        small = masslib.compress(model, masslib.Quantize("int8"), splits.train, verbose=False)
        file = masslib.export.tflite(small, folder / "int8.tflite", labels=splits.classes)
        training.together(folder / "shards", "residual", epochs, folder / "small.keras", width=12)
        rival = keras.models.load_model(folder / "small.keras")
        rival = masslib.compress(rival, masslib.Quantize("int8"), splits.train, verbose=False)
        other = masslib.export.tflite(rival, folder / "small.tflite", labels=splits.classes)
        for name, path in (("compressed", file), ("trained small, from scratch", other)):
            packed = len(gzip.compress(path.read_bytes(), 9))
            found.append(f"{name}: {packed / 1e3:.0f} kB gzipped, test {_share(masslib.evaluate(path, splits.test))}")
    return file


def _threshold(report: Report, file: Path, splits: data.Splits) -> None:
    with report.stage("A threshold for what mistakes cost") as found, masslib.load(file) as predictor:
        valid, test = (predictor.predict(part[:][0])[:, photos.WANTED] for part in (splits.valid, splits.test))
        tried = np.unique(np.append(valid, 0.5))
        best = min(tried, key=lambda limit: _cost(valid >= limit, splits.valid.y))
        found.append(f"a wanted photo lost costs {COST_LOST}, an unwanted one let through {COST_LET_THROUGH}")
        for name, limit in (("0.5", 0.5), (f"{best:.3f}, chosen on validation photos", best)):
            found.append(f"threshold {name}: {1000 * _cost(test >= limit, splits.test.y):.1f} per 1,000 test photos")


def _cost(kept: np.ndarray, y: np.ndarray) -> float:
    wanted = np.asarray(y) == photos.WANTED
    return float(np.mean(COST_LOST * (wanted & ~kept) + COST_LET_THROUGH * (~wanted & kept)))


def _hard(report: Report, file: Path, splits: data.Splits) -> None:
    with report.stage("Photos that it was not made for") as found:
        for name, subset in photos.hard(splits.test).items():
            found.append(f"{name}: {_share(masslib.evaluate(file, subset))}")


def _serve(report: Report, folder: Path, model: keras.Model, splits: data.Splits) -> None:
    root, records = folder / "models", folder / "answers.sqlite"
    day = splits.test.sample(min(len(splits.test), 600), seed=1)
    half = len(day) // 2
    dark, again = service.at_night(day.take(half)), service.at_night(day.select(slice(half, None)))
    with report.stage("Package") as found:
        _package(model, folder / "packages" / "1", splits)
        service.put(folder / "packages" / "1", root, 1)
        files = sorted((root / service.NAME / "1").iterdir())
        found += [f"{file.name}: {file.stat().st_size / 1e3:.0f} kB" for file in files]
    with masslib.serve(root, record=str(records), drift_window=60.0) as server:
        with report.stage("Service: photos from eight clients") as found:
            answers, ms = service.ask(server, day.rows.raw(slice(None)))
            found.append(f"{service.right(answers, day):.1%} of {len(day)} photos right")
            found.append(f"{np.median(ms):.1f} ms at the median, {np.quantile(ms, 0.99):.1f} ms at the 99th percentile")
        with report.stage("Night falls: noticed, corrected, learned") as found:
            answers, _ = service.ask(server, dark.rows.raw(slice(None)))
            found.append(f"version 1, at night: {service.right(answers, dark):.1%} right")
            found += [f"drift of {name}: {psi:.2f}" for name, psi in service.drifts(server).items()]
            service.correct(server, answers, dark)
            before, _ = service.ask(server, again.rows.raw(slice(None)))
            feedback = data.from_records(records, model=service.NAME)
            model = training.next_version(folder / "float.keras", splits.train, feedback, 2)
            _package(model, folder / "packages" / "2", splits)
            service.put(folder / "packages" / "2", root, 2)
            server.wait(service.NAME, 2)
            after, _ = service.ask(server, again.rows.raw(slice(None)))
            found.append(f"{len(feedback)} answers were corrected and learned; version 2 took over without a pause")
            found.append(
                f"other photos at night: {service.right(before, again):.1%} by version {before[0]['version']}, "
                f"{service.right(after, again):.1%} by version {after[0]['version']}"
            )
            found.append(f"version 2 by day: test {_share(masslib.evaluate(model, splits.test))}")


def _package(model: keras.Model, folder: Path, splits: data.Splits) -> None:
    small = masslib.compress(model, masslib.Quantize("int8"), splits.train, verbose=False)
    masslib.package(
        small, folder, splits, description="Tells photos of flowers from photos of clothes for sale.",
        limitations="Not for photos of anything else, and not to judge people.", verbose=False,
    )  # fmt: skip


def _share(judged: masslib.Evaluation) -> str:
    low, high = judged.accuracy_interval
    return f"{judged.accuracy:.2%} [{low:.2%}, {high:.2%}]"


if __name__ == "__main__":
    sys.exit(main())
