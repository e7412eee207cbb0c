# PYTHON_ARGCOMPLETE_OK, for shells that complete all commands with argcomplete
r"""Command line, thin over the functions of the package.

Every command is a :class:`audmodel.cli.command.Command`:
it reads its arguments, calls a function,
and gives a result for programs and one for people.
All commands treat results, messages, errors and signals in the same way,
see :mod:`audmodel.cli.main`.

"""

from audmodel.cli.main import main as main
from audmodel.cli.main import run as run
