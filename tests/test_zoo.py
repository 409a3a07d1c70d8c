"""Every room of masslib with networks of others: the table of docs/zoo.md is what runs."""

import keras
import pytest

from zoo import NETWORKS, hub, page, rooms

UNFIT = {rooms.CRASH, rooms.OBSCURE, rooms.WRONG}
OF_HUB = {name for name in page.rows() if name.startswith("hub_")}


def test_every_network_has_a_row_and_no_cell_is_unfit():
    table = page.rows()
    assert len(table) >= 30 and NETWORKS.keys() <= table.keys()
    assert not {(name, cell) for name, cells in table.items() for cell in cells.values() if cell in UNFIT}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras and the converter about networks of others
@pytest.mark.parametrize("name", sorted(NETWORKS.keys() | OF_HUB))
def test_the_row_of_a_network_is_what_runs(name):
    if name not in NETWORKS:
        assert not hub.INSTALLED
        pytest.skip("keras_hub is not installed: pip install 'masslib[hub]'")
    keras.backend.clear_session()
    cells, told = rooms.row(NETWORKS[name])
    assert cells == page.rows()[name], "\n".join(told)
