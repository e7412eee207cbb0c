"""Call functions of the audmodel that is installed, and time them.

This runs in a process of its own, with this version or with audmodel 1.5.3.
Each line that it reads is a call, each line that it writes the outcome.

"""

from __future__ import annotations

import json
import sys
import time


def peak() -> int:
    """Largest amount of memory that the process has had, in bytes."""
    try:
        # Unlike what getrusage() tells, this is never that of the parent
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if "VmHWM" in line) << 10
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(name: str, host: str, backend: str, cache: str) -> None:
    import audmodel

    audmodel.config.CACHE_ROOT = cache
    audmodel.config.REPOSITORIES = [audmodel.Repository(name, host, backend)]
    functions = {"use_cache": lambda root: setattr(audmodel.config, "CACHE_ROOT", root)}
    # Imports what is imported when it is used, and opens a connection
    audmodel.versions("00000000")
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        function, arguments, options = json.loads(line)
        if function == "publish":
            options["repository"] = audmodel.config.REPOSITORIES[0]
        call = functions.get(function) or getattr(audmodel, function)
        start = time.perf_counter()
        value = call(*arguments, **options)
        seconds = time.perf_counter() - start
        outcome = {"seconds": seconds, "peak": peak(), "value": str(value)}
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
