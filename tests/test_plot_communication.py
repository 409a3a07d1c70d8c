import pytest
from matplotlib.patches import Circle

from masslib import plot


@pytest.mark.parametrize("workers", [2, 4])
def test_every_process_and_every_way_is_drawn(workers):
    ring, served = plot.communication(workers=workers).axes
    names = {text.get_text() for text in ring.texts}
    assert {f"worker {n}\nmodel" for n in range(workers)} <= names
    assert len([p for p in ring.patches if isinstance(p, Circle)]) == workers
    assert len([p for p in served.patches if isinstance(p, Circle)]) == workers + 2
    arrows = [[text for text in ax.texts if getattr(text, "arrow_patch", None)] for ax in (ring, served)]
    assert [len(found) for found in arrows] == [workers, 3 * workers]


def test_measured_bytes_stand_in_the_titles():
    figure = plot.communication({"parameter server": 25.84})
    assert [ax.get_title("left") for ax in figure.axes] == ["All-reduce", "Parameter server: 25.8 MB per step"]


def test_communication_errors():
    with pytest.raises(ValueError, match=r"megabytes names \['gossip'\]; expected 'all-reduce' and 'parameter server'"):
        plot.communication({"gossip": 1.0})
    with pytest.raises(ValueError, match="workers=9: expected 2 to 8"):
        plot.communication(workers=9)
