"""`package`: a model with everything that its users need to know, in one folder."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib import measure, runtime
from masslib._util import manifest
from masslib._util.files import replacing
from masslib._util.progress import bar
from masslib._util.structures import flat
from masslib.compression import Quantize, compress
from masslib.ensemble import Ensemble
from masslib.evaluation import evaluate
from masslib.evaluation.tasks import compiled_options
from masslib.export import endpoints, preflight, texts
from masslib.export._onnx import onnx
from masslib.export._openvino import openvino
from masslib.export._packed import packed
from masslib.export._saved_model import saved_model
from masslib.export._tflite import Exportable, tflite
from masslib.formats import metadata
from masslib.packaging import _ensemble, _golden, card, preprocessing, provenance, reference
from masslib.packaging._replaces import Replaces

if TYPE_CHECKING:
    import keras

    from masslib.data import Splits

_sparse = functools.partial(tflite, sparse=True)

# Name -> the precision that it asks for, how it is written, and its file.
_FORMATS: dict[str, tuple[str, Callable | None, str]] = {
    "keras": ("float32", None, "model.keras"),
    "saved_model": ("float32", saved_model, "saved_model"),
    "tflite": ("float32", tflite, "float32.tflite"),
    "tflite-sparse": ("float32", _sparse, "sparse.tflite"),
    "tflite-float16": ("float16", tflite, "float16.tflite"),
    "tflite-dynamic": ("dynamic", tflite, "dynamic.tflite"),
    "tflite-int8": ("int8", tflite, "int8.tflite"),
    "packed": ("float32", packed, "float32.packed"),
    "packed-dynamic": ("dynamic", packed, "dynamic.packed"),
    "packed-int8": ("int8", packed, "int8.packed"),
    "onnx": ("float32", onnx, "float32.onnx"),
    "onnx-int8": ("int8", onnx, "int8.onnx"),
    "openvino": ("float32", openvino, "float32.xml"),
    "openvino-int8": ("int8", openvino, "int8.xml"),
    "ensemble": ("float32", _ensemble.write, "model.ensemble"),
}
_GOLDEN, _EXAMPLES, _REFERENCE = 16, 64, 2048


def package(
    model: keras.Model | Exportable | Ensemble | Mapping[str, Any],
    path: str | os.PathLike[str],
    splits: Splits,
    *,
    formats: Sequence[str] | None = None,
    description: str = "",
    limitations: str = "",
    training: Mapping[str, Any] | None = None,
    examples: Any = None,
    scale: float | None = None,
    vectorizer: keras.layers.TextVectorization | None = None,
    seed: int = 0,
    replaces: Replaces | str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> Path:
    """Write a model in several formats, measure each file, and write down what its users need to know.

    The folder holds the model files, a `MODEL_CARD.md` for people, a `manifest.json` for programs, and `golden.npz`,
    some inputs with the answers of every file, which `masslib.packaging.golden` reads. The manifest tells the data and
    their checksum, the training, the versions of the packages, and of each file the metrics on the test split with
    their intervals, size, latency, SHA-256, and how many rows it takes at once (`batch`; none said: any number).

    Args:
        model: A trained Keras 3 model, with any inputs and outputs, or a `Compressed` one, which becomes a TFLite file
            in its own precision, or an `Ensemble`. Of its members networks become TFLite files, estimators of
            scikit-learn, LightGBM and XGBoost ONNX files (the extra `estimators`), and files are copied;
            `model.ensemble` says how they answer together. A dict of several models, such as
            `{"translate": whole, "encode": encoder, "decode": decoder}`, becomes as many signatures of each file, as
            for `masslib.export.tflite`; the first is the default one, which is judged; the service answers for all that
            take and answer rows.
        path: The folder to make; one that `package` made is replaced once the new one is whole.
        splits: `splits.train` calibrates int8 files, `splits.test` judges, `splits.classes` are the labels.
        formats: Which files: `"keras"`, `"saved_model"`, `"tflite"`, `"tflite-sparse"` (zeros are left out),
            `"tflite-float16"`, `"tflite-dynamic"`, `"tflite-int8"`, `"packed"`, `"packed-dynamic"`, `"packed-int8"`,
            and with the extras `"onnx"`, `"onnx-int8"`, `"openvino"`, `"openvino-int8"`. By default `keras`,
            `saved_model`, `tflite` and `tflite-dynamic`; of a `Compressed` model `tflite`, beside which `packed` and,
            of floats, `tflite-sparse` are possible; of several signatures likewise, in the precision that they have;
            of an ensemble `"ensemble"`, beside which `tflite` and `packed` are, if all of its members are Keras
            networks.
        description: What the model is for, for the card and the files.
        limitations: What it must not be used for, for the card.
        training: What the training was, such as `{"epochs": 3, "batch_size": 128}`; optimizer and loss are told anyway
            if the model is compiled.
        examples: Inputs `(n, *input_shape)` to keep with their answers as golden rows: `verify` and the service ask
            every file for them again. By default the first 16 rows of the test split; pass others if these must not
            leave the house.
        scale: What photos are multiplied by, pixels from 0 to 255, to become inputs: by the service and by the
            signature `classify` of a SavedModel. By default the training split tells: the factor of its photos or
            bytes; 1/255 if the largest value of its images is 1, and 1 if it is 255. Where it does not tell, such as
            for standardized images, the package takes no photos, and the card says so.
        vectorizer: Of a model of texts, the layer that made the token ids of `splits`. Its vocabulary becomes
            `vocabulary.json`, the tokens in the order of their ids, and `classify` of a SavedModel takes texts.
        seed: Seed of the choice of calibration rows.
        replaces: The package of the version before, or a `masslib.packaging.Replaces`, which says on which rows besides
            the test split the new one must not be worse. Where it is, nothing is written; else the manifest tells by
            how much it is better.
        verbose: Whether to show progress.

    Returns:
        The path of the folder.

    Raises:
        TypeError: If `model` is not a Keras model, nor the first of a dict, or another one of the dict is no model.
        masslib.packaging.Refused: A ValueError: a file is worse than that of the version that it `replaces`.
        ValueError: If a format is unknown or does not go with the model; the folder holds files of others; or a file
            answers differently from the model. Nothing is left behind, whatever is raised.

    References:
        Mitchell et al., "Model Cards for Model Reporting", 2019.

    Example:
        >>> import masslib, tempfile
        >>> splits = masslib.data.load("digits")
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> folder = package(model, tempfile.mkdtemp() + "/digits", splits, formats=["tflite"], verbose=False)
        >>> sorted(file.name for file in folder.iterdir())
        ['MODEL_CARD.md', 'float32.tflite', 'golden.npz', 'manifest.json']
        >>> masslib.verify(folder)["answers"].tolist()
        ['as when it was packaged']
    """
    parts = endpoints.parts(model)
    first = next(iter(parts.values()))
    together, several = isinstance(model, Ensemble), isinstance(model, Mapping)
    network = first if together else preflight.unpacked(first)[0]
    if several and not preflight.is_keras(network):
        raise TypeError(
            f"the first signature is a {type(first).__name__}; expected a Keras model or a Compressed one, which is "
            "judged on the test split"
        )
    if several and vectorizer is not None:
        raise ValueError("vectorizer: `classify` of texts has one model; package that alone")
    compressed = "a Compressed model" if network is not first else None
    formats = _checked(formats, "an Ensemble" if together else "several signatures" if several else compressed)
    told = _ensemble.described(model, splits) if together else _described(first, network, splits)
    if several:
        told["signatures"] = list(parts)
    # In a file of several signatures nothing says whose classes they are.
    labels = None if len(parts) > 1 else _labels(told, splits)
    if vectorizer is not None:
        _check_texts(vectorizer, network, labels, splits)
    path = Path(path)
    with replacing(path) as folder:
        folder.mkdir()
        scale = preprocessing.known_scale(splits.train.rows) if scale is None else scale
        files = _write(model, splits, formats, folder, labels, description, scale, vectorizer, seed, verbose)
        gate = replaces if isinstance(replaces, Replaces) or replaces is None else Replaces(replaces)
        passed = gate and gate.check(files, splits.test, compiled_options(network))
        golden = splits.test[:_GOLDEN][0] if examples is None else examples
        measured, answers = _measure(files, network, splits, golden, verbose)
        facts = {
            "format": _golden.FORMAT,
            "name": path.name if not path.name.isdigit() else path.parent.name,
            "description": description,
            "limitations": limitations,
            "model": told,
            "data": provenance.data(splits),
            "training": {**provenance.compiled(network), **dict(training or {})},
            "packages": provenance.versions(),
            "machine": provenance.machine(),
            "models": measured,
            **({"replaces": passed} if passed else {}),
            "golden": _golden.write(folder, _golden.Golden(golden, answers)),
            "preprocessing": preprocessing.describe(splits.test.rows, scale),
            **({"text": texts.describe(vectorizer, folder)} if vectorizer is not None else {}),
            "reference": _reference(next(iter(files.values())), splits),
        }
        (folder / card.NAME).write_text(card.text(facts), encoding="utf-8")
        manifest.write(folder, **facts)
    return path


def _described(model: Any, network: Any, splits: Splits) -> dict[str, Any]:
    if not preflight.is_keras(network):
        preflight.check_keras(network)
    seen = endpoints.seen("model", network, splits.test[:1][0])
    return provenance.network(seen, network is not model and model)


def _labels(told: dict[str, Any], splits: Splits) -> list[str] | None:
    """Names of the classes; of several outputs, nobody has said which one they are of."""
    shape = told["output_shape"]
    return metadata.check_labels(splits.classes, shape[-1]) if isinstance(shape, list) and shape else None


def _check_texts(vectorizer: Any, network: Any, labels: list[str] | None, splits: Splits) -> None:
    """Raise if the vectorizer does not suit the model, whatever the formats."""
    if isinstance(network, Ensemble):
        raise ValueError("vectorizer: the members of an Ensemble take token ids; package it without")
    seen = endpoints.seen("model", network, splits.test[:1][0])
    texts.check(vectorizer, labels, [endpoints.endpoint("model", seen)])


def _checked(formats: Sequence[str] | None, special: str | None) -> list[str]:
    """The formats; of what is no plain network, such as a Compressed model, only some are possible."""
    own = {"an Ensemble": ["ensemble", "tflite", "packed"]}
    every = [name for name in _FORMATS if name != "ensemble"]
    possible = every if special is None else own.get(special, ["tflite", "tflite-sparse", "packed"])
    if formats is None:
        formats = ["keras", "saved_model", "tflite", "tflite-dynamic"] if special is None else possible[:1]
    unknown = [name for name in formats if name not in _FORMATS]
    if isinstance(formats, str) or not formats or unknown:
        raise ValueError(f"formats={formats!r}: expected a list of some of {', '.join(_FORMATS)}")
    wrong = [name for name in formats if name not in possible]
    if wrong and special == "a Compressed model":
        raise ValueError(
            f"formats={list(formats)}: a Compressed model has its own precision and becomes a file 'tflite' or "
            f"'packed'; for {wrong} pass the Keras model"
        )
    if wrong:
        raise ValueError(f"formats={list(formats)}: {wrong} of {special or 'a network'}; expected {possible}")
    return list(dict.fromkeys(formats))


def _write(
    model: Any,
    splits: Splits,
    formats: list[str],
    folder: Path,
    labels: list[str] | None,
    description: str,
    scale: float | None,
    vectorizer: keras.layers.TextVectorization | None,
    seed: int,
    verbose: bool,
) -> dict[str, Path]:
    files = {}
    several = isinstance(model, Mapping)
    own, examples = model, splits.test[:_EXAMPLES][0]
    if several:
        (first, own), *_ = model.items()
        examples = {first: examples}
    for name in bar(formats, title="export", unit="file", visible=verbose):
        precision, write, file = _FORMATS[name]
        if "float32" in file:  # an ensemble of files is no network, and its own file has no precision
            file = file.replace("float32", preflight.unpacked(own)[1])
        files[name] = folder / file
        if write is None:
            model.save(files[name])
            continue
        small = model
        if precision != "float32":
            small = compress(model, Quantize(precision), splits.train, seed=seed, verbose=False)
        about: dict[str, Any] = {"description": description or None}
        if write is saved_model:
            about = {"scale": scale, "vectorizer": vectorizer}
        if write in (tflite, _sparse, packed):
            about["batch_size"] = "auto"
        write(small, files[name], labels=labels, example_inputs=examples, **about)
    return files


def _measure(
    files: dict[str, Path], network: Any, splits: Splits, golden: Any, verbose: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What is told of each file, and its answers to the golden rows."""
    timed = measure.latencies(files, max_seconds=1.0, example_inputs=splits.test[:1][0])
    told, measured, answers = compiled_options(network), {}, {}
    for name, path in bar(files.items(), title="evaluate", unit="file", visible=verbose):
        with runtime.load(path) as predictor:
            result = evaluate(predictor, splits.test, **told)
            answers[name], batch = predictor.predict(golden), predictor.batch
        size = measure.file_size(path)
        measured[name] = {
            "file": path.name,
            "metrics": {key: _rounded(value) for key, value in result.metrics.items()},
            "accuracy_interval": getattr(result, "accuracy_interval", None),
            "batch": batch,
            "bytes": size.raw,
            "gzipped_bytes": size.gzipped,
            "median_ms": round(timed[name].median_ms, 4),
            "p95_ms": round(timed[name].p95_ms, 4),
            "threads": timed[name].threads,
        }
    return measured, answers


def _reference(path: Path, splits: Splits) -> dict[str, Any]:
    """The distribution of inputs and answers on rows of the validation split, for a service to watch what comes."""
    spread = np.linspace(0, len(splits.valid) - 1, min(_REFERENCE, len(splits.valid))).astype(int)
    rows = splits.valid[spread][0]
    with runtime.load(path) as predictor:
        return reference.describe(flat(rows), flat(predictor.predict(rows)))


def _rounded(value: float) -> float | None:
    """JSON has no NaN, which the AUC is when a class is absent."""
    return round(value, 6) if math.isfinite(value) else None
