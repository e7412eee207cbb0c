"""An S3 server on this machine that ignores all conditions."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from pathlib import Path
import re
import shutil
import subprocess
import sys

from tests.backends import seaweedfs


BUCKET = "models"


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """URL of rclone's S3 server, whose bucket ``models`` is empty.

    Args:
        folder: empty folder

    """
    (folder / "data" / BUCKET).mkdir(parents=True)
    beside = Path(sys.executable).parent / "rclone"
    program = str(beside) if beside.exists() else shutil.which("rclone")
    assert program is not None, "'make test' installs rclone"
    process = subprocess.Popen(
        [
            program,
            "serve",
            "s3",
            f"--config={folder / 'none.conf'}",
            "--addr=127.0.0.1:0",
            f"--auth-key={seaweedfs.ACCESS_KEY},{seaweedfs.SECRET_KEY}",
            str(folder / "data"),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"\[(http://127\.0\.0\.1:\d+)/\]", line):
                yield found[1]
                return
        raise RuntimeError("rclone did not start.")
    finally:
        process.kill()
        process.communicate()
