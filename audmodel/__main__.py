r"""Command line, run as ``python -m audmodel``."""

from audmodel.cli import run


if __name__ == "__main__":
    run()
