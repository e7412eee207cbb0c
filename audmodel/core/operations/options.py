r"""How to load models, as one object that all steps of a load share."""

from dataclasses import dataclass

from audmodel.core.progress.counters import StartProgress
from audmodel.core.progress.counters import no_progress


@dataclass(frozen=True)
class LoadOptions:
    r"""How to load, verify or repair a model.

    Args:
        files: patterns of the files, the whole model if it is ``None``
        num_workers: number of threads
        timeout: seconds to wait for another process, forever if negative
        ahead: largest number of files that are begun
            before the caller asks for them,
            bound by the number of requests alone if it is ``None``
        start_progress: called with the number of bytes of the archive,
            gives what counts those that are done

    """

    files: tuple[str, ...] | None = None
    num_workers: int = 1
    timeout: float = -1
    ahead: int | None = None
    start_progress: StartProgress = no_progress
