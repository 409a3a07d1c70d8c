"""From raw files to reproducible batches; NumPy until `Subset.batches()`."""

from masslib.data._split import split
from masslib.data.arrays import from_arrays
from masslib.data.catalog import load
from masslib.data.directory import from_directory
from masslib.data.frames import write_shards_from
from masslib.data.materialize import from_dataset
from masslib.data.photos import photos
from masslib.data.ragged import ragged
from masslib.data.records import from_records
from masslib.data.shards import read_shards, write_shards
from masslib.data.splits import Splits
from masslib.data.subset import Subset
from masslib.data.table import from_dataframe

__all__ = [
    "Splits",
    "Subset",
    "from_arrays",
    "from_dataframe",
    "from_dataset",
    "from_directory",
    "from_records",
    "load",
    "photos",
    "ragged",
    "read_shards",
    "split",
    "write_shards",
    "write_shards_from",
]
