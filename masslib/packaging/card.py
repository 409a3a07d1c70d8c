"""The model card: what `package` found out, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

NAME = "MODEL_CARD.md"
_NOT_STATED = "The author has not said."


def text(facts: Mapping[str, Any]) -> str:
    """Write the facts of a manifest as Markdown, in the sections of Mitchell et al. (2019)."""
    model, data = facts["model"], facts["data"]
    sections = {
        "Model details": [
            f"`{model['name']}`: {_shape(model['input_shape'])} -> {_shape(model['output_shape'])}, "
            f"{model['weights']:,} weights."
            + _members(model)
            + _signatures(model)
            + (f" Compressed by {', '.join(f'`{step}`' for step in model['recipe'])}." if model["recipe"] else ""),
            _list(facts["training"]),
        ],
        "Intended use": [facts["description"] or _NOT_STATED],
        "Limitations": [facts["limitations"] or _NOT_STATED],
        "Data": [_data(data)],
        "Results": [
            f"On the {data['test']['rows']:,} rows of the test split"
            + ("; in brackets the 95 % interval." if _intervals(facts) else "."),
            _results(facts["models"]),
            "Sizes on the disk and gzipped, in kB of 1000 bytes. Times of one call with one row, median and 95th "
            f"percentile, on {facts['machine']}.",
        ],
        "How to use it": [
            _usage(list(facts["models"].values())[-1]["file"], model["input_shape"]),
            "Inputs are in the range of the training data. `manifest.json` says the same to programs, with the "
            "SHA-256 of every file.",
            _photos(facts["preprocessing"], model["input_shape"]),
            _texts(facts.get("text")),
        ],
        "Made with": [_list(facts["packages"])],
    }
    body = "\n\n".join("\n\n".join([f"## {title}", *filter(None, parts)]) for title, parts in sections.items())
    return f"# {facts['name']}\n\n{body}\n"


def _members(model: Mapping[str, Any]) -> str:
    """Who answers in an ensemble."""
    listed = ", ".join(f"{name} (`{kind}`)" for name, kind in model.get("members", {}).items())
    return f" The weights are those of its networks. A {model['how']} of {listed}." if listed else ""


def _signatures(model: Mapping[str, Any]) -> str:
    """What a file answers beside its default signature."""
    default, *others = model.get("signatures", [None])
    listed = ", ".join(f"`{name}`" for name in others)
    return f" Beside `{default}`, which is judged here, each file has the signatures {listed}." if others else ""


def _usage(file: str, shape: Any) -> str:
    lines = [
        "import masslib",
        "",
        'masslib.verify(".")  # the checksums, and that every file answers as when it was packaged',
        f'masslib.export.load("{file}").predict(x)  # x: {_rows(shape)}',
    ]
    return "\n".join(["```python", *lines, "```"])


def _texts(told: Mapping[str, Any] | None) -> str:
    """How texts become token ids, for models of texts."""
    if told is None:
        return ""
    steps = f"standardize={told['standardize']!r}, split={told['split']!r}, ngrams={told['ngrams']!r}"
    return (
        f"Texts become {told['output_sequence_length']} token ids as by `keras.layers.TextVectorization` with {steps}; "
        f"the id of a token is its place in `{told['vocabulary']}`, from 0."
    )


def _photos(told: Mapping[str, Any] | None, shape: Any) -> str:
    """How photos become inputs, for models of images."""
    if told is None:
        images = isinstance(shape, list) and len(shape) == 3 and shape[2] in (1, 3)
        return "How photos become inputs is not known, so the service takes none." if images else ""
    height, width = told["size"]
    colour = "grey" if told["channels"] == 1 else "colour"
    size = f"{height} pixels high and {width} wide (`{told['resize']}`)"
    return f"Photos become {colour}, {size}, and are multiplied by {told['scale']:.4g}."


def _data(data: Mapping[str, Any]) -> str:
    rows = [(name, f"{data[name]['rows']:,}", f"`{data[name]['sha256']}`") for name in ("train", "valid", "test")]
    table = _table(("split", "rows", "SHA-256 of inputs and labels"), rows)
    return table + (f"\n\nClasses: {', '.join(data['classes'])}." if data["classes"] else "")


def _results(models: Mapping[str, Mapping[str, Any]]) -> str:
    metrics = list(next(iter(models.values()))["metrics"])
    rows = []
    for entry in models.values():
        figures = ["undefined" if (value := entry["metrics"][name]) is None else f"{value:.4f}" for name in metrics]
        if entry["accuracy_interval"]:
            low, high = entry["accuracy_interval"]
            figures[0] += f" [{low:.4f}, {high:.4f}]"
        size = f"{entry['bytes'] / 1000:,.0f} kB, gzipped {entry['gzipped_bytes'] / 1000:,.0f} kB"
        rows.append((f"`{entry['file']}`", *figures, size, f"{entry['median_ms']:.3f} ms, {entry['p95_ms']:.3f} ms"))
    return _table(("file", *metrics, "size", "time"), rows)


def _intervals(facts: Mapping[str, Any]) -> bool:
    return any(entry["accuracy_interval"] for entry in facts["models"].values())


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _list(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {_value(value)}" for key, value in facts.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        if "class" in value:  # an optimizer
            return _call(value["class"], {key: inner for key, inner in value.items() if key != "class"})
        if set(value) == {"class_name", "config"}:  # what Keras writes of an object, such as a schedule
            return _call(value["class_name"], value["config"])
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    return str(value)


def _call(name: str, settings: Mapping[str, Any]) -> str:
    """An object as Python writes it."""
    return f"{name}({', '.join(f'{key}={_value(value)}' for key, value in settings.items())})"


def _shape(shape: Any) -> str:
    """A shape in words; of several, each by its name."""
    if isinstance(shape, Mapping):
        return ", ".join(f"{name} {_shape(part)}" for name, part in shape.items())
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"({sizes})" if "," in sizes else f"({sizes},)"


def _rows(shape: Any) -> str:
    """The shape of some rows."""
    return _shape({name: ["n", *part] for name, part in shape.items()} if isinstance(shape, Mapping) else ["n", *shape])
