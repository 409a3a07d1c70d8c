import asyncio

import numpy as np
import pytest

pytest.importorskip("httptools", reason="the extra serve is not installed")

from masslib.serving.batching import Batcher


async def batches(arrivals: int) -> tuple[list[int], list[float]]:
    """Rows of every call, and what each of the requests gets that arrive in one pass of the loop after the other."""
    rows: list[int] = []
    batcher = Batcher(
        lambda inputs: {"y": 2 * inputs["x"]}, (1, 2, 4, 8), 1e-4,
        queue=100, max_wait=0, done=lambda n, *_: rows.append(n),
    )  # fmt: skip
    waiting = []
    for number in range(arrivals):
        waiting.append(batcher.submit({"x": np.full((1, 1), number)}, 1, 5))
        await asyncio.sleep(0)
    return rows, [(await one).outputs["y"].item() for one in waiting]


@pytest.mark.parametrize("arrivals, wanted", [(1, [1]), (5, [5]), (8, [8]), (20, [8, 8, 4])])
def test_a_call_takes_what_following_passes_of_the_loop_bring(arrivals, wanted):
    rows, answers = asyncio.run(batches(arrivals))
    assert rows == wanted
    assert answers == [2 * number for number in range(arrivals)]
