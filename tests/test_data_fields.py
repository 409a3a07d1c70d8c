"""Structures: what is passed as dicts and lists comes out in the same structure, in every batch."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import masslib
from masslib.data import Splits, from_arrays
from masslib.data.passed import passed

N = 12
RNG = np.random.default_rng(0)
IMAGE, AGE = RNG.integers(0, 256, (N, 4, 4, 3), np.uint8), np.arange(N) + 2**40
INPUTS = {"image": IMAGE, "person": (AGE, np.array([f"p{k}" for k in range(N)])), "flag": RNG.random((N, 2)) > 0.5}
LABELS = [np.arange(N) % 3, RNG.random((N, 2, 2, 1))]
WEIGHT = RNG.random(N)


def flat(value):
    return keras.tree.flatten(value)


def equal(a, b) -> bool:
    keras.tree.assert_same_structure(a, b)
    return all(p.dtype == q.dtype and np.array_equal(p, q) for p, q in zip(flat(a), flat(b), strict=True))


def test_structures_come_out_as_they_went_in():
    subset = from_arrays(INPUTS, LABELS, WEIGHT)
    x, y, weights = subset[:]
    np.testing.assert_array_equal(x["image"], IMAGE * np.float32(1 / 255))
    assert (x["person"][0].tolist(), x["person"][1].tolist()) == (AGE.tolist(), INPUTS["person"][1].tolist())
    assert [part.dtype.name for part in flat(y)] == ["int64", "float32"]
    assert len(weights) == 2 and equal(weights[0], weights[1]) and weights[0].dtype == np.float32
    np.testing.assert_array_equal(weights[0], WEIGHT.astype(np.float32))
    assert subset.input_shape == {"image": (4, 4, 3), "person": ((), ()), "flag": (2,)}
    assert equal(subset.y, y) and equal(subset.sample_weight, weights)
    rows = np.array([7, 2, 2])
    for part in (subset[rows], subset.select(rows)[:]):
        assert all(np.array_equal(p[rows], q) for p, q in zip(flat((x, y, weights)), flat(part), strict=True))
    assert repr(subset).endswith("labels (int64, float32), weights (float32, float32))")
    assert len(subset.sample(5)) == len(subset.take(5)[:][1][0]) == 5


@pytest.mark.parametrize(
    "y, weight", [(None, None), (LABELS, None), (LABELS, WEIGHT), (LABELS[0], WEIGHT), (LABELS, LABELS)]
)
def test_batches_are_those_of_rows_gathered_in_memory(y, weight):
    subset = from_arrays(INPUTS, y, weight)
    whole, number = [part for part in subset[:] if part is not None], {int(age): k for k, age in enumerate(AGE)}
    batches = list(subset.batches(5, seed=3, epochs=2))
    for batch in batches:
        x, *rest = batch if isinstance(batch, tuple) else (batch,)
        rows = [number[int(age)] for age in x["person"][0]]
        for found, expected in zip(flat((x, *rest)), flat(tuple(whole)), strict=True):
            expected = np.char.encode(expected) if expected.dtype.kind == "U" else expected
            np.testing.assert_array_equal(found.numpy(), expected[rows])
    later = list(subset.batches(5, seed=3, epoch=1, start=1))
    assert all(equal(a, b) for a, b in zip(later, batches[4:], strict=True))
    halves = [list(subset.batches(4, seed=3, replicas=2, shard=(rank, 2))) for rank in (0, 1)]
    for batch, *parts in zip(subset.batches(4, seed=3), *halves, strict=True):
        assert equal(batch, keras.tree.map_structure(lambda *pair: tf.concat(pair, 0), *parts))


def test_lists_of_numbers_are_one_array_and_other_lists_one_for_each_element():
    assert from_arrays([[1.5], [2], [3]]).input_shape == (1,)
    assert from_arrays({"a": ["x", "y"], "b": [[1, 2]] * 2}).input_shape == {"a": (), "b": (2,)}
    assert from_arrays([np.arange(3), [1, 2, 3]]).input_shape == ((), ())
    (x,) = from_arrays([np.arange(3)]).batches(3, shuffle=False)  # as Keras packs it
    assert isinstance(x, tuple) and x[0][0].numpy().tolist() == [0, 1, 2]


@pytest.mark.slow
def test_only_the_named_fields_are_augmented_each_for_itself():
    flip = keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomBrightness(0.3, value_range=(0, 1))])
    two = from_arrays({"a": IMAGE, "n": np.arange(N), "b": IMAGE}, np.arange(N))
    pairs = from_arrays(IMAGE, np.arange(N)).batches(5, augment=flip).unbatch()
    alone = {int(y): x for x, y in pairs}
    for x, y in two.batches(4, augment={"a": flip, "b": flip}):
        np.testing.assert_array_equal(x["n"], y)
        np.testing.assert_array_equal(x["a"], [alone[k] for k in y.numpy()])
        assert all((x["a"][k].numpy() != x["b"][k].numpy()).any() for k in range(4))
    for x, y in two.batches(4, augment={"b": flip}):
        np.testing.assert_array_equal(x["a"], two[y.numpy()][0]["a"])
    (((a, _),),) = from_arrays([IMAGE, AGE]).batches(N, augment=[flip, None], shuffle=False)
    np.testing.assert_array_equal(a, [alone[k] for k in range(N)])


def test_weights_and_several_outputs_train_as_with_keras():
    def model():
        keras.utils.set_random_seed(0)
        image, age = keras.Input((4, 4, 3), name="image"), keras.Input((1,), name="age")
        both = keras.layers.Concatenate()([keras.layers.Flatten()(image), age])
        made = keras.Model([image, age], {"kind": keras.layers.Dense(3)(both), "price": keras.layers.Dense(1)(both)})
        made.compile("sgd", {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "price": "mse"})
        return made

    x = {"image": (IMAGE / 255).astype("float32"), "age": np.linspace(0, 1, N, dtype="float32")[:, None]}
    y = {"kind": np.arange(N) % 3, "price": RNG.random((N, 1)).astype("float32")}
    weight = {"kind": WEIGHT.astype("float32"), "price": np.arange(N, dtype="float32")}
    options = {"batch_size": 5, "shuffle": False, "epochs": 2, "verbose": 0}
    expected = model().fit(x, y, sample_weight=weight, **options).history
    for subset in (passed(x, y, weight), from_arrays(x, y, weight)):
        found = masslib.fit(model(), subset, **options).history
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.parametrize(
    "arguments, options, error, words",
    [
        (({"a": AGE, "b": AGE[:5]},), {}, ValueError, r"numbers of rows: {'x': \[5, 12\]}; expected as many"),
        (({"a": IMAGE, "b": np.full(N, np.nan)},), {}, ValueError, r"x\['b'\] holds NaN"),
        (([AGE, [object()] * N],), {}, ValueError, r"x\[1\]\[0\] has shape \(\)"),
        (({},), {}, ValueError, "x is an empty dict"),
        ((None,), {}, TypeError, "x is None"),
        ((AGE, None, WEIGHT), {}, ValueError, "sample_weight was passed without y"),
        ((AGE, LABELS, [WEIGHT]), {}, ValueError, r"structure \('array',\) and y \('array', 'array'\)"),
        ((AGE, LABELS, RNG.random((N, 2))), {}, ValueError, r"rows of shape \(2,\) for several labels"),
        ((AGE, AGE, ["a"] * N), {}, TypeError, "sample_weight has dtype <U1"),
        ((AGE, AGE, np.full(N, np.inf)), {}, ValueError, "sample_weight holds NaN or infinity"),
        (
            (INPUTS,),
            {"scale": 2},
            ValueError,
            r"2 was passed for x, which has the fields \['image', 'person', 'flag'\]",
        ),
        ((INPUTS,), {"scale": {"photo": 2}}, ValueError, r"expected such as {'image': '...'}"),
        (({"a": AGE}, {"kind": AGE}), {"classes": ["a", "b"]}, ValueError, r"was passed for y, .*\['kind'\]"),
        (({"a": AGE}, {"kind": AGE}), {"classes": {"kind": ["a"]}}, ValueError, r"y\['kind'\] holds label .* row 0"),
        (({"a": AGE}, AGE), {"classes": {"kind": ["a"]}}, ValueError, "but y is one array; expected a list of names"),
    ],
)
def test_bad_structures_are_refused(arguments, options, error, words):
    with pytest.raises(error, match=words):
        from_arrays(*arguments, **options)


@pytest.mark.parametrize("augment", [keras.layers.RandomFlip(), {"photo": None}, [None]])
def test_augmentation_of_fields_that_there_are_not_is_refused(augment):
    with pytest.raises(
        ValueError, match=r"inputs are \['image', 'person', 'flag'\]; expected such as {'image': layer}"
    ):
        from_arrays(INPUTS).batches(4, augment=augment)


def test_options_and_splits_of_structures():
    subset = from_arrays(INPUTS, {"a": [0, 1] * 6, "b": AGE}, classes={"a": ["no", "yes"]}, scale={"image": 0.5})
    np.testing.assert_array_equal(subset[:][0]["image"], IMAGE * np.float32(0.5))
    assert subset.classes == {"a": ["no", "yes"]} and "{'a': 2} classes" in repr(subset)
    splits = Splits.from_arrays(subset, valid=2, test=3)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [7, 2, 3]
    assert splits.classes == {"a": ["no", "yes"]} and "classes={'a': ['no', ...]}" in repr(splits)
    assert splits.num_classes == {"a": 2, "b": 2**40 + N}
    weighted = Splits.from_arrays((INPUTS, AGE % 2, WEIGHT), valid=0.2)
    assert len(weighted.train[:]) == 3
