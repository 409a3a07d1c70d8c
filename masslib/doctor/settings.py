"""Settings outside of the program that lead Keras and TensorFlow astray: the environment and keras.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from masslib.doctor.findings import Finding

# What masslib builds on, as in a keras.json that nobody has changed
_EXPECTED = {"backend": "tensorflow", "floatx": "float32", "image_data_format": "channels_last"}


def setting_findings(environment: Mapping[str, str], home: Path) -> list[Finding]:
    """Look for settings with which masslib does not work; nothing is imported.

    Args:
        environment: The environment variables, such as `os.environ`.
        home: The home folder, where `.keras/keras.json` is read unless KERAS_HOME names another folder.

    Example:
        >>> from pathlib import Path
        >>> from masslib.doctor import setting_findings
        >>> (finding,) = setting_findings({"KERAS_BACKEND": "torch"}, Path("/nowhere"))
        >>> print(finding)
        problem: KERAS_BACKEND is 'torch'; masslib needs Keras on 'tensorflow'
          mend it: unset KERAS_BACKEND
    """
    found = []
    if environment.get("TF_USE_LEGACY_KERAS"):
        found.append(
            Finding(
                f"TF_USE_LEGACY_KERAS is {environment['TF_USE_LEGACY_KERAS']!r}, which puts Keras 2 in the place of "
                "tf.keras; masslib works on Keras 3 models and imports tf_keras by itself",
                "unset TF_USE_LEGACY_KERAS",
            )
        )
    backend = environment.get("KERAS_BACKEND")
    if backend and backend != "tensorflow":
        found.append(
            Finding(
                f"KERAS_BACKEND is {backend!r}; masslib needs Keras on 'tensorflow'",
                "unset KERAS_BACKEND",
            )
        )
    folder = environment.get("KERAS_HOME")
    return [*found, *_of_file((Path(folder) if folder else home / ".keras") / "keras.json", backend)]


def _of_file(path: Path, backend: str | None) -> Iterator[Finding]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        yield Finding(f"{path} cannot be read ({error}), so Keras passes over it", f"rm {path}", serious=False)
        return
    for name, expected in _EXPECTED.items():
        value = settings.get(name, expected)
        if value != expected and not (name == "backend" and backend):  # the environment goes first
            yield Finding(
                f"{path} says {json.dumps(name)}: {json.dumps(value)}; masslib needs {json.dumps(expected)}",
                f"change it to {json.dumps(name)}: {json.dumps(expected)} in {path}",
            )
