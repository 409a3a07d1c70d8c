"""Every room of masslib with networks of others: the table of docs/zoo.md is what runs."""

import keras
import pytest
from zoo import NETWORKS, hub, page, rooms

TABLE = page.rows()
CHEAP = {"actor_critic", "autoencoder", "imbalanced_dense", "multi_label"}
"""One each of images, tables, words and several outputs; `make test-slow` runs these, `make test-all` every row."""


def test_no_cell_of_the_table_is_unfit():
    assert len(TABLE) >= 30
    assert sum(name.startswith("hub_") for name in TABLE) >= 3
    assert not {(name, cell) for name, cells in TABLE.items() for cell in cells.values() if cell in rooms.UNFIT}


@pytest.mark.filterwarnings("ignore")  # of Keras and the converter about networks of others
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in CHEAP else pytest.mark.exhaustive) for name in sorted(TABLE)],
)
def test_the_row_of_a_network_is_what_runs(name):
    if name.startswith("hub_") and not hub.INSTALLED:
        pytest.skip("keras_hub is not installed; the extra `hub` has it")
    keras.backend.clear_session()
    cells, told = rooms.row(NETWORKS[name])
    assert cells == TABLE[name], "\n".join(told)
