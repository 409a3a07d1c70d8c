"""`Ensemble`: several models that answer as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.checks import check_counts
from masslib._util.structures import flat
from masslib.ensemble.fitting import fitted
from masslib.ensemble.members import Member, members_of
from masslib.runtime.ensembles import HOW, Rule, matched

if TYPE_CHECKING:
    import keras

    from masslib.data import Subset


class Ensemble:
    """Several models that answer as one: it predicts, is evaluated, compared, packaged and served like one model.

    Errors that the members do not share cancel out in their mean, so that a committee is often better than the best of
    its members: by how much depends on how different their errors are (Krogh & Vedelsby, "Neural network ensembles,
    cross validation, and active learning", 1995).

    Args:
        members: A list of models, or a dict of them by name: Keras models, paths of exported files (whatever
            `masslib.runtime.load` opens), loaded files, and estimators with `predict_proba`, such as those of
            scikit-learn, XGBoost and LightGBM. All take the same rows and have one output of the same shape;
            estimators, and files that want columns, get images flattened. Beside a network with one sigmoid, of an
            estimator's two columns the second is taken.
        weights: One number per member, from 0, as a list or by name; of equal size by default. `fit` learns them.
        how: `"mean"`: the weighted mean of the answers. `"vote"`: the weighted share of the members that choose each
            class. `"stack"`: a linear layer with a softmax on the logarithms of all probabilities, which `fit` learns
            (Wolpert, "Stacked generalization", 1992).

    Attributes:
        names: Names of the members.
        weights: `(members,)` of sum 1.
        how: As passed.

    Raises:
        FileNotFoundError: If the file of a member is missing; the member is named.
        TypeError: If a member does not tell probabilities.
        ValueError: If there are fewer than two, or the weights do not fit.

    Example:
        >>> import masslib
        >>> splits = masslib.data.load("digits")
        >>> nets = [masslib.models.mlp(splits.input_shape, 10, seed=seed) for seed in range(3)]
        >>> committee = Ensemble(nets)
        >>> committee.names, committee.predict(splits.test[:5][0]).shape
        (['mlp', 'mlp 2', 'mlp 3'], (5, 10))
    """

    # What an export asks of anything that has a `model`.
    precision, calibration = "float32", None

    def __init__(
        self,
        members: Sequence[Any] | Mapping[str, Any],
        *,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        how: str = "mean",
    ):
        if how not in HOW:
            raise ValueError(f"how={how!r}: expected one of {', '.join(map(repr, HOW))}")
        self.how = how
        self.members: list[Member] = members_of(members)
        self.names = [member.name for member in self.members]
        self._rule: Rule | None = None if how == "stack" else Rule(how, self._weights(weights))
        if how == "stack" and weights is not None:
            raise ValueError("a stack learns its weights; leave them out, and call fit(splits.valid)")

    def _weights(self, weights: Any) -> np.ndarray:
        if weights is None:
            return np.full(len(self.members), 1 / len(self.members))
        if isinstance(weights, Mapping):
            if set(weights) != set(self.names):
                raise ValueError(f"weights of {', '.join(weights)}, but the members are {', '.join(self.names)}")
            weights = [weights[name] for name in self.names]
        array = np.asarray(weights, np.float64)
        if array.shape != (len(self.members),) or not np.isfinite(array).all() or (array < 0).any() or not array.any():
            raise ValueError(f"weights={weights!r}: expected {len(self.members)} numbers from 0, not all of them 0")
        return array / array.sum()

    @property
    def rule(self) -> Rule:
        """How the answers are combined.

        Raises:
            ValueError: If it is a stack that has learned nothing yet.
        """
        if self._rule is None:
            raise ValueError("a stack has to learn first: call ensemble.fit(splits.valid)")
        return self._rule

    @property
    def weights(self) -> np.ndarray:
        """Weights `(members,)` of sum 1; of a stack, all alike."""
        return np.full(len(self.members), 1 / len(self.members)) if self._rule is None else self._rule.weights

    @property
    def loss(self) -> Any:
        """The loss that the first compiled network among the members has; it tells `masslib.evaluate` the task."""
        return next((it for it in (getattr(member.model, "loss", None) for member in self.members) if it), None)

    @property
    def model(self) -> keras.Model:
        """All members as one new Keras model, which shares the input; `masslib.export.tflite(ensemble)` writes it.

        Raises:
            ValueError: If a member is no Keras network; it is named.
        """
        from masslib.ensemble.joined import joined

        return joined(self.members, self.rule)

    def fit(self, data: Subset | tuple[Any, ...]) -> Ensemble:
        """Learn the weights, or the stack, from rows that no member was trained on; the members stay as they are.

        The weights of a mean are convex and have the least cross-entropy, of quantities the least squared error (SLSQP,
        `scipy.optimize.minimize`; the problem is convex). Those of a vote are the log-odds of each member's accuracy,
        which is best for voters who err independently. A stack is scikit-learn's `LogisticRegression`.

        Args:
            data: A `Subset`, such as `splits.valid`, or `(x, y)`.

        Returns:
            The ensemble itself.

        Raises:
            ValueError: If labels and answers do not fit, there are no labels, or rows have weights.

        References:
            Nitzan & Paroush (1982), Optimal decision rules in uncertain dichotomous choice situations; Wolpert (1992).

        Example:
            >>> import masslib
            >>> splits = masslib.data.load("digits")
            >>> nets = [masslib.models.mlp(splits.input_shape, 10, seed=seed) for seed in range(2)]
            >>> round(float(Ensemble(nets).fit(splits.valid).weights.sum()), 6)
            1.0
        """
        x, y, *rest = data[:] if hasattr(data, "targets") else tuple(data)
        if y is None or rest:
            what = "no labels" if y is None else "weights of rows, which are not taken into account"
            raise ValueError(f"the data have {what}; pass (x, y)")
        answers = self.answers(x)
        self._rule = fitted(self.how, matched(answers), np.asarray(y))
        return self

    def predict(self, x: Any, *, batch_size: int = 256) -> np.ndarray:
        """Answer rows.

        Args:
            x: Rows `(n, ...)`, as the members take them.
            batch_size: Rows at once, for networks and files.

        Returns:
            `(n, k)` float32.

        Raises:
            ValueError: If a member fails or answers in another shape; it is named.
        """
        return self.rule.combined(self.answers(x, batch_size=batch_size))

    def answers(self, x: Any, *, batch_size: int = 256) -> dict[str, np.ndarray]:
        """The answers of each member, by its name.

        Args:
            x: As for `predict`.
            batch_size: As for `predict`.

        Raises:
            ValueError: If a member fails; it is named.
        """
        check_counts(batch_size=(batch_size, 1))
        x = x if isinstance(x, Mapping | list | tuple) else np.asarray(x)
        if len({len(array) for array in map(np.asarray, flat(x))}) != 1:
            raise ValueError("the inputs have different numbers of rows")
        return {member.name: member.answers(x, batch_size) for member in self.members}

    def __repr__(self) -> str:
        listed = ", ".join(
            name if np.allclose(self.weights, self.weights[0]) else f"{weight:.2g} {name}"
            for name, weight in zip(self.names, self.weights, strict=True)
        )
        return f"Ensemble({self.how} of {listed})"
