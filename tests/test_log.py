"""What masslib logs is seen where nobody has configured logging, and obeys who has."""

import subprocess
import sys

SCRIPT = """
import logging, sys
import masslib
from masslib.distribute import strategy
if "interactive" in sys.argv:
    sys.ps1 = ">>> "
if "configured" in sys.argv:
    logging.basicConfig(format="%(levelname)s of %(name)s: %(message)s")
if "silent" in sys.argv:
    logging.getLogger("masslib").setLevel("WARNING")
logging.getLogger("masslib").info("%d replica", 1)
logging.getLogger("masslib").debug("a detail")
"""


def _output(*arguments):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_messages_go_to_stderr_and_in_a_notebook_to_stdout():
    assert _output() == ("", "masslib: 1 replica\n")
    assert _output("interactive") == ("masslib: 1 replica\n", "")


def test_logging_that_is_configured_decides():
    assert _output("configured") == ("", "INFO of masslib: 1 replica\n")
    assert _output("silent") == ("", "")
