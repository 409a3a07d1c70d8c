"""Worker processes: started from a notebook cell, a script or the command line, watched, and started again."""

from masslib._util.extras import needed_by

with needed_by(__name__):
    from masslib.launcher._launch import launch
    from masslib.launcher.errors import WorkerError
    from masslib.launcher.many import Trained, train_many

__all__ = ["Trained", "WorkerError", "launch", "train_many"]
