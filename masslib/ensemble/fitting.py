"""What an ensemble learns from validation rows: convex weights, the weights of a vote, or a stack."""

from __future__ import annotations

import numpy as np

from masslib.runtime.ensembles import LEAST, Rule, stacked, voted


def fitted(how: str, parts: list[np.ndarray], y: np.ndarray) -> Rule:
    """The rule that suits the answers of the members to some rows.

    Args:
        how: `"mean"`, `"vote"` or `"stack"`.
        parts: Of each member `(n, k)`.
        y: Classes `(n,)`, one-hot labels or quantities `(n, k)`.

    Raises:
        ValueError: If labels and answers do not fit, or `how` needs classes.
    """
    if len(y) != len(parts[0]):
        raise ValueError(f"y has {len(y)} labels for {len(parts[0])} rows")
    probabilities = all(part.min() >= -1e-6 and part.max() <= 1 + 1e-6 for part in parts)
    classes = _classes(y, parts[0].shape[1]) if probabilities else None
    if how == "mean":
        own = None if classes is None else np.array([_of_class(part, classes) for part in parts])
        return Rule(how, _convex(parts, y) if own is None else _likeliest(own))
    if classes is None:
        raise ValueError(f"how={how!r} needs probabilities of classes and labels of classes; use how='mean'")
    if how == "vote":
        return Rule(how, _log_odds(parts, classes))
    return _stack(parts, classes)


def _classes(y: np.ndarray, k: int) -> np.ndarray | None:
    """Class numbers `(n,)` of labels, or None if they are quantities."""
    if k > 1 and y.shape == (len(y), k) and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
        return y.argmax(axis=1)
    if y.size != len(y):
        return None
    flat = y.reshape(-1)
    fits = (flat == np.floor(flat)).all() and flat.min() >= 0 and flat.max() < max(k, 2)
    return flat.astype(int) if fits else None


def _of_class(part: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The probability `(n,)` of the true class."""
    if part.shape[1] == 1:
        return np.where(classes == 1, part[:, 0], 1 - part[:, 0])
    return part[np.arange(len(part)), classes]


def _likeliest(own: np.ndarray) -> np.ndarray:
    """Convex weights with the least cross-entropy; `own` is `(members, n)`."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(weights @ own, LEAST)
        return -float(np.log(mixed).mean()), -(own / mixed).mean(axis=1)

    return _on_the_simplex(loss, len(own))


def _convex(parts: list[np.ndarray], y: np.ndarray) -> np.ndarray:
    """Convex weights with the least squared error."""
    wanted = np.asarray(y, np.float64).reshape(parts[0].shape)
    errors = np.array([(part - wanted).reshape(-1) for part in parts])
    product = errors @ errors.T / errors.shape[1]
    return _on_the_simplex(lambda weights: (weights @ product @ weights, 2 * product @ weights), len(parts))


def _on_the_simplex(loss: object, members: int) -> np.ndarray:
    """The minimum of a convex function over weights that are not negative and sum to 1."""
    from scipy.optimize import minimize

    sums = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like}
    start = np.full(members, 1 / members)
    found = minimize(loss, start, jac=True, bounds=[(0, 1)] * members, constraints=[sums], method="SLSQP")
    weights = np.clip(found.x, 0, 1)
    return weights / weights.sum()


def _log_odds(parts: list[np.ndarray], classes: np.ndarray) -> np.ndarray:
    """The best weights of voters who err independently: log-odds of being right."""
    ways = max(parts[0].shape[1], 2)
    n = len(classes)
    right = np.array([(_of_class(voted(part), classes).sum() + 1) / (n + 2) for part in parts])
    weights = np.maximum(np.log(right * (ways - 1) / (1 - right)), 0)
    return weights / weights.sum() if weights.any() else np.full(len(parts), 1 / len(parts))


def _stack(parts: list[np.ndarray], classes: np.ndarray) -> Rule:
    """Logistic regression on the standardized logarithms of all probabilities."""
    from sklearn.linear_model import LogisticRegression

    k = parts[0].shape[1]
    if k < 2 or len(np.unique(classes)) < k:
        raise ValueError(
            f"a stack needs a probability for each class and rows of all {k} classes; got rows of "
            f"{len(np.unique(classes))}"
        )
    columns = stacked(parts)
    # Logarithms of probabilities lie far from zero and go together: without this, lbfgs takes hundreds of steps.
    middle, scale = columns.mean(axis=0), columns.std(axis=0)
    scale[scale == 0] = 1
    found = LogisticRegression(C=0.1, solver="newton-cg").fit((columns - middle) / scale, classes)
    kernel = found.coef_.T / scale[:, None]
    bias = found.intercept_ - middle @ kernel
    if k == 2:  # scikit-learn keeps that of class 1 alone
        kernel, bias = np.concatenate([-kernel, kernel], axis=1) / 2, np.concatenate([-bias, bias]) / 2
    return Rule("stack", np.full(len(parts), 1 / len(parts)), kernel, bias)
