"""Several models answer as one: exactly their combination, in one file, in a package, and with names in every error."""

import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC

import masslib
from masslib import Ensemble, export, models
from masslib.export._estimators import estimator
from masslib.runtime import ensembles


def _net(digits, seed, epochs=2, hidden=(24,)):
    model = models.mlp(digits.input_shape, 10, hidden=hidden, seed=seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.train, batch_size=32, epochs=epochs, seed=seed, verbose=0)
    return model


@pytest.fixture(scope="module")
def nets(digits):
    return [_net(digits, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def forest(digits):
    x, y = digits.train[:]
    return RandomForestClassifier(20, random_state=0).fit(x.reshape(len(x), -1), y)


def test_the_mean_is_the_mean_of_all_kinds_of_members(nets, forest, digits, tmp_path):
    path = export.tflite(nets[1], tmp_path / "second.tflite")
    x, y = digits.test[:]
    committee = Ensemble({"net": nets[0], "file": path, "forest": forest}, weights={"net": 2, "file": 1, "forest": 1})
    expected = (
        nets[0].predict(x, verbose=0) / 2
        + nets[1].predict(x, verbose=0) / 4
        + forest.predict_proba(x.reshape(len(x), -1)) / 4
    )
    np.testing.assert_allclose(committee.predict(x), expected, atol=1e-6)
    found = masslib.evaluate(committee, digits.test)
    assert found.task == "multiclass" and found.accuracy == np.mean(expected.argmax(1) == y)
    votes = Ensemble([nets[0], nets[1], forest], how="vote").predict(x)
    assert set(np.unique(votes.round(4))) <= {0, np.float32(0.3333), np.float32(0.6667), 1}
    np.testing.assert_allclose(votes.sum(1), 1, rtol=1e-6)


def test_convex_weights_are_best_on_the_rows_that_they_learn_from(nets, digits):
    useless = models.mlp(digits.input_shape, 10, seed=9)
    committee = Ensemble([*nets, useless]).fit(digits.valid)
    x, y = digits.valid[:]

    answers = np.array(list(committee.answers(x).values()))

    def loss(weights):
        return -np.log(np.tensordot(weights, answers, 1)[np.arange(len(y)), y]).mean()

    least = loss(committee.weights)
    rng = np.random.default_rng(0)
    assert all(least <= loss(rng.dirichlet(np.ones(4))) for _ in range(200))
    assert committee.weights[3] < 0.02 and committee.weights.sum() == pytest.approx(1)
    votes = Ensemble([*nets, useless], how="vote").fit(digits.valid).weights
    assert votes[3] < votes[:3].min() / 3


def test_quantities_have_the_weights_of_least_squares():
    class Off:
        def __init__(self, by):
            self.by = by

        def predict(self, x):
            return x + self.by

    x = np.linspace(0, 9, 50)[:, None]
    committee = Ensemble([Off(1.0), Off(-3.0)]).fit((x, x))
    np.testing.assert_allclose(committee.weights, [0.75, 0.25], atol=1e-4)
    np.testing.assert_allclose(committee.predict(x), x, atol=1e-3)


@pytest.mark.parametrize("how", ["mean", *(pytest.param(it, marks=pytest.mark.slow) for it in ("vote", "stack"))])
def test_networks_become_one_file_that_answers_the_same(how, nets, digits, tmp_path):
    committee = Ensemble(nets, how=how).fit(digits.valid)
    path = export.tflite(committee, tmp_path / "all.tflite", batch_size="auto")
    x = digits.test[:64][0]
    np.testing.assert_allclose(export.load(path).predict(x), committee.predict(x), atol=1e-5)
    assert committee.model.loss == "sparse_categorical_crossentropy"
    assert committee.model.count_params() >= 3 * nets[0].count_params()


def test_no_member_takes_the_name_of_another():
    nets = [models.mlp((4,), 2, seed=seed) for seed in range(3)]
    for net, name in zip(nets, ("net 2", "net", "net"), strict=True):
        net.name = name
    assert Ensemble(nets).names == ["net 2", "net", "net 3"]


def test_two_columns_and_one_are_of_the_same_classes(digits):
    x, y = digits.train[:]
    binary = LogisticRegression(max_iter=50).fit(x.reshape(len(x), -1), y > 4)
    one = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1, "sigmoid")])
    answer = Ensemble([binary, one]).predict(x[:7])
    expected = (binary.predict_proba(x[:7].reshape(7, -1))[:, 1:] + one.predict(x[:7], verbose=0)) / 2
    np.testing.assert_allclose(answer, expected, atol=1e-6)


def test_a_stack_has_to_learn_and_then_beats_a_useless_member(nets, digits):
    stack = Ensemble([*nets[:2], models.mlp(digits.input_shape, 10, seed=9)], how="stack")
    with pytest.raises(ValueError, match="a stack has to learn first"):
        stack.predict(digits.test[:2][0])
    found = masslib.evaluate(stack.fit(digits.valid), digits.test).accuracy
    assert found >= max(masslib.evaluate(net, digits.test).accuracy for net in nets[:2]) - 0.02


def test_a_stack_is_a_logistic_regression_on_standardized_logarithms():
    rng = np.random.default_rng(0)
    parts, y = rng.dirichlet((1, 2, 3), (2, 400)), rng.integers(0, 3, 400)
    members = [SimpleNamespace(predict=lambda x, part=part: part[x]) for part in parts]
    stack = Ensemble(members, how="stack").fit((np.arange(400), y))
    logs = np.log(np.concatenate(list(parts), axis=1))
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(logs, y).predict_proba(logs)
    np.testing.assert_allclose(stack.predict(np.arange(400)), expected, atol=2e-3)


class Broken:
    def predict(self, x):
        raise RuntimeError("out of tea")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda n, d: Ensemble(n[:1]), ValueError, "at least two members, got 1"),
        (lambda n, d: Ensemble([n[0], "gone.tflite"]), FileNotFoundError, "member 'gone': gone.tflite does not exist"),
        (lambda n, d: Ensemble([*n[:2], 7]), TypeError, "member 'int' is a int, which does not tell probabilities"),
        (lambda n, d: Ensemble({"a": n[0], "b": LogisticRegression()}), ValueError, "'b' .* is not trained; fit it"),
        (
            lambda n, d: Ensemble({"a": n[0], "svm": LinearSVC().fit([[0], [1]], [0, 1])}),
            TypeError,
            "member 'svm' is a LinearSVC, which does not tell probabilities",
        ),
        (lambda n, d: Ensemble(n, how="best"), ValueError, "how='best': expected one of 'mean', 'vote', 'stack'"),
        (lambda n, d: Ensemble(n, weights=[1, 2]), ValueError, "expected 3 numbers from 0"),
        (lambda n, d: Ensemble(n, weights=[1, 2, -1]), ValueError, "expected 3 numbers from 0"),
        (lambda n, d: Ensemble({"a": n[0], "b": Broken()}).predict(d), ValueError, "'b' .Broken. cannot answer: .*tea"),
        (
            lambda n, d: Ensemble({"a": n[0], "b": _logits()}).predict(d),
            ValueError,
            "the members 'b' do not answer probabilities of classes, as the others do",
        ),
        (lambda n, d: Ensemble(n).fit(masslib.data.from_arrays(d)), ValueError, "no labels; pass .x, y."),
        (lambda n, d: Ensemble(n).fit((d, [0] * 4, [1] * 4)), ValueError, "weights of rows, which are not taken into"),
        (
            lambda n, d: export.tflite(Ensemble({"a": n[0], "b": Broken()}), "x.tflite"),
            ValueError,
            "member 'b' .Broken. is no Keras network .* masslib.package",
        ),
    ],
)
def test_a_member_that_fails_or_is_missing_is_named(make, error, words, nets, digits):
    with pytest.raises(error, match=words):
        make(nets, digits.test[:4][0])


def _logits():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])


@pytest.mark.slow
def test_a_student_learns_from_a_committee_without_labels(nets, forest, digits):
    committee = Ensemble([*nets, forest])
    x, _ = digits.train[:]
    student = models.mlp(digits.input_shape, 10, hidden=(24,), seed=5)
    step = masslib.Distill(student, teacher=committee, alpha=1, temperature=1, epochs=10)
    small = masslib.compress(nets[0], step, masslib.data.from_arrays(x), batch_size=32, verbose=False)
    images, labels = digits.test[:]
    answers = small.model.predict(images, verbose=0).argmax(1)
    assert np.mean(answers == committee.predict(images).argmax(1)) > 0.9
    assert np.mean(answers == labels) > 0.85
    assert "teacher=Ensemble(mean of mlp, mlp 2, mlp 3, randomforestclassifier)" in repr(small.steps[0])
    with pytest.raises(ValueError, match="the data have no labels; pass alpha=1"):
        masslib.compress(
            nets[0], masslib.Distill(teacher=committee), masslib.data.from_arrays(x), batch_size=32, verbose=False
        )


@pytest.mark.slow
def test_the_model_itself_goes_on_learning_and_the_recipe_is_kept(nets, digits, tmp_path):
    path = export.tflite(nets[1], tmp_path / "teacher.tflite")
    small = masslib.compress(nets[0], masslib.Distill(teacher=path), digits.train, batch_size=32, verbose=False)
    assert small.model.count_params() == nets[0].count_params()
    small.save(tmp_path / "kept")
    (step,) = masslib.Compressed.load(tmp_path / "kept").steps
    assert step.student is None and step.teacher == str(path)
    for wrong, words in (({"teacher": 7}, "expected something with predict"), ({}, "student=None")):
        with pytest.raises(ValueError, match=words):
            masslib.Distill(**wrong)


@pytest.mark.slow
def test_of_equal_probabilities_the_file_votes_for_the_first_as_the_ensemble(digits, tmp_path):
    keras.utils.set_random_seed(0)
    flat = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    flat.set_weights([np.zeros_like(it) for it in flat.get_weights()])
    committee = Ensemble([flat, models.mlp(digits.input_shape, 10, seed=1)], weights=[3, 1], how="vote")
    x = digits.test[:16][0]
    answers = export.load(export.tflite(committee, tmp_path / "vote.tflite", batch_size="auto")).predict(x)
    np.testing.assert_allclose(answers, committee.predict(x), atol=1e-6)
    assert (answers[:, 0] >= 0.75).all()


@pytest.fixture(scope="module")
def mixed(nets, forest, digits, tmp_path_factory):
    """Files of three formats and a forest, packaged as version 1 of `committee`."""
    pytest.importorskip("skl2onnx", reason="needs the extra estimators")
    folder = tmp_path_factory.mktemp("mixed")
    nets[2].save(folder / "c.keras")
    files = [export.tflite(nets[0], folder / "a.tflite"), export.packed(nets[1], folder / "b.packed")]
    committee = Ensemble([*files, folder / "c.keras", forest], weights=[3, 2, 2, 1])
    return committee, masslib.package(committee, folder / "models" / "committee" / "1", digits, verbose=False)


@pytest.mark.slow
def test_files_of_three_formats_and_a_forest_are_packaged(mixed, digits):
    committee, folder = mixed
    kinds = sorted(it.name for it in folder.iterdir() if it.name[0].isdigit())
    assert kinds == ["0_a.tflite", "1_b.packed", "2_c.tflite", "3_randomforestclassifier.onnx"]
    assert masslib.verify(folder)["answers"].tolist() == ["as when it was packaged"]
    x = digits.test[:40][0]
    predictor = export.load(folder / "model.ensemble")
    assert predictor.output_shape == (10,)
    np.testing.assert_allclose(predictor.predict(x), committee.predict(x), atol=1e-4)


@pytest.mark.slow
@pytest.mark.alone
def test_a_mixed_ensemble_is_served_and_a_version_that_misses_a_member_is_refused(mixed, digits, tmp_path):
    committee, folder = mixed
    x = digits.test[:40][0]
    root = tmp_path / "models"
    shutil.copytree(folder, root / "committee" / "1")
    with masslib.serve(root) as server:
        for rows in (x, x[:1]):
            np.testing.assert_allclose(server.predict(rows, "committee"), committee.predict(rows), atol=1e-4)
        shutil.copytree(folder, tmp_path / "2")
        (tmp_path / "2" / "1_b.packed").unlink()
        (tmp_path / "2").rename(root / "committee" / "2")
        with pytest.raises(ValueError, match=r"committee 2 was refused: .*1_b.packed is missing"):
            server.wait("committee", 2)
        np.testing.assert_allclose(server.predict(x, "committee"), committee.predict(x), atol=1e-4)


@pytest.mark.slow
def test_a_file_names_the_member_that_is_missing_changed_or_fails(mixed, digits, tmp_path):
    _, folder = mixed

    def loaded(file, data):
        shutil.copytree(folder, tmp_path / file)
        path = tmp_path / file / file
        path.unlink() if data is None else path.write_bytes(data)
        return export.load(tmp_path / file / "model.ensemble")

    for file, data, words in (
        ("1_b.packed", None, "member 'b' of .*1_b.packed is missing"),
        ("0_a.tflite", b"nothing", "member 'a' of .*0_a.tflite was changed"),
    ):
        with pytest.raises(ValueError, match=words):
            loaded(file, data)


@pytest.mark.slow
def test_a_member_that_fails_in_a_file_is_named(nets, tmp_path):
    export.tflite(nets[0], tmp_path / "a.tflite", batch_size="auto")
    larger = models.mlp((9, 9, 1), 10, hidden=(8,))
    export.tflite(larger, tmp_path / "b.tflite", batch_size="auto")
    ensembles.write(
        tmp_path / "it.ensemble", ensembles.Rule("mean", np.ones(2) / 2), {"a": "a.tflite", "b": "b.tflite"}
    )
    with pytest.raises(ValueError, match=r"member 'b' \(b.tflite\) cannot answer: expected .*\(n, 9, 9, 1\)"):
        export.load(tmp_path / "it.ensemble").predict(np.zeros((3, 8, 8, 1)))


def test_a_file_that_names_itself_is_refused(tmp_path):
    path = tmp_path / "it.ensemble"
    path.touch()
    ensembles.write(path, ensembles.Rule("mean", np.ones(1)), {"self": "it.ensemble"})
    with pytest.raises(ValueError, match="member 'self' of .*: it.ensemble is an ensemble itself"):
        export.load(path)


class Own(ClassifierMixin, BaseEstimator):
    """skl2onnx has never heard of it."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x):
        return np.full((len(x), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.slow
def test_gradient_boosting_of_other_packages_is_written_and_what_cannot_be_is_named(digits, tmp_path):
    pytest.importorskip("onnxmltools", reason="needs the extra estimators")
    x, y = digits.train[:300]
    x = x.reshape(300, -1)
    for package, name, settings in (
        ("lightgbm", "LGBMClassifier", {"n_estimators": 5, "verbose": -1}),
        ("xgboost", "XGBClassifier", {"n_estimators": 5}),
    ):
        module = pytest.importorskip(package, reason=f"writes the trees of {package}")
        model = make_pipeline(MinMaxScaler(), getattr(module, name)(**settings)).fit(x, y)
        found = export.load(estimator(model, tmp_path / f"{package}.onnx", x)).predict(x)
        np.testing.assert_allclose(found, model.predict_proba(x), atol=1e-5)
    with pytest.raises(
        ValueError, match="cannot write a Own: .*; take another estimator .of gradient boosting LightGBM"
    ):
        estimator(Own().fit(x, y), tmp_path / "own.onnx", x)
    assert sorted(it.name for it in tmp_path.iterdir()) == ["lightgbm.onnx", "xgboost.onnx"]


@pytest.mark.slow
def test_a_package_of_files_needs_no_extra(nets, digits, tmp_path):
    files = [export.tflite(nets[0], tmp_path / "a.tflite"), export.packed(nets[1], tmp_path / "b.packed")]
    committee = Ensemble(files).fit(digits.valid)
    folder = masslib.package(committee, tmp_path / "it", digits, verbose=False)
    x = digits.test[:40][0]
    np.testing.assert_allclose(export.load(folder / "model.ensemble").predict(x), committee.predict(x), atol=1e-6)


@pytest.mark.slow
def test_a_package_of_networks_needs_no_extra(nets, digits, tmp_path):
    committee = Ensemble(nets).fit(digits.valid)
    formats = ["ensemble", "tflite"]
    folder = masslib.package(committee, tmp_path / "it", digits, formats=formats, verbose=False)
    x = digits.test[:40][0]
    for file in ("model.ensemble", "float32.tflite"):
        np.testing.assert_allclose(export.load(folder / file).predict(x), committee.predict(x), atol=1e-4)
    assert "A mean of mlp (`Sequential`)" in (folder / "MODEL_CARD.md").read_text()
    with pytest.raises(ValueError, match=r"\['keras'\] of an Ensemble; expected \['ensemble', 'tflite', 'packed'\]"):
        masslib.package(committee, tmp_path / "no", digits, formats=["keras"], verbose=False)
