import pytest

from masslib.train import scaled_schedule


def test_it_warms_up_to_the_scaled_rate_and_falls_to_zero():
    schedule = scaled_schedule(0.1, scale=8, steps=200)
    rates = [float(schedule(step)) for step in range(201)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[20] == pytest.approx(0.8)
    assert all(a < b for a, b in zip(rates[:20], rates[1:21], strict=True))
    assert all(a > b for a, b in zip(rates[20:], rates[21:], strict=False))
    assert rates[200] == pytest.approx(0, abs=1e-9)


def test_without_scaling_there_is_no_warm_up():
    schedule = scaled_schedule(0.1, scale=1, steps=50)
    assert float(schedule(0)) == pytest.approx(0.1)
    assert float(schedule(25)) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 0, "steps": 10}, "scale=0, steps=10: expected positive numbers"),
        ({"scale": 2, "steps": 10, "warmup_steps": 10}, "warmup_steps=10: expected fewer than the 10 steps"),
    ],
)
def test_impossible_schedules_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        scaled_schedule(0.1, **arguments)
