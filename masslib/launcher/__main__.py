"""A worker process: `python -m masslib.launcher FOLDER`, as `Process` starts it."""

import sys
from pathlib import Path

from masslib.launcher.child import main

sys.exit(main(Path(sys.argv[1])))
