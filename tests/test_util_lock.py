import os
import subprocess
import sys

import pytest

from masslib._util.lock import lock


def test_a_folder_is_given_back(tmp_path):
    folder = tmp_path / "deep" / "folder"
    for _ in range(2):
        with lock(folder), pytest.raises(RuntimeError, match=f"folder is in use by process {os.getpid()}; wait for"):
            lock(folder)


def test_another_process_is_kept_out_until_it_dies(tmp_path):
    code = "import sys, masslib._util.lock as l; held = l.lock(sys.argv[1]); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], **pipes) as owner:
        owner.stdout.readline()
        with pytest.raises(RuntimeError, match=f"in use by process {owner.pid}"):
            lock(tmp_path)
        owner.kill()
    lock(tmp_path).close()
