"""Modules that are changed, and the tests that should notice.

What is lost, exposed or blocked by a mistake in one of them
cannot be made good by another.

"""

from __future__ import annotations

from pathlib import Path


_RECORDS = """
    behaviour/test_audit behaviour/test_models
    behaviour/test_delete
    operations/test_concurrency reliability/test_damaged_records
    reliability/test_deletes reliability/test_hostile_records
    reliability/test_late_writes reliability/test_leftovers reliability/test_locks
    reliability/test_lost_responses reliability/test_probe
    repository/test_claims repository/test_header repository/test_leftovers
    repository/test_registry operations/test_publishing
    """
_ARCHIVE = """
    archive/test_folder archive/test_format archive/test_hostile
    archive/test_member_file archive/test_names archive/test_plan
    archive/test_properties
    archive/test_reader archive/test_resume archive/test_seeds archive/test_writer
    operations/test_partial operations/test_verify reliability/test_flips
    """
_CACHE = """
    cache/test_cache cache/test_eviction cache/test_folder cache/test_staging
    cache/test_alias_cache cache/test_locks cache/test_marker
    cache/test_tree
    operations/test_local operations/test_partial operations/test_verify
    reliability/test_locks reliability/test_racer
    """
_HTTP = """
    backends/test_responses backends/test_connections backends/test_endless
    backends/test_interruption backends/test_pace backends/test_termination
    backends/test_threads backends/test_s3_client backends/test_artifactory
    backends/test_retry reliability/test_wire reliability/test_lost_responses
    """
_S3 = """
    backends/test_s3 backends/test_s3_client backends/test_s3_conditions
    backends/test_s3_upload backends/test_responses backends/test_verdicts
    backends/test_rewritten reliability/test_probe reliability/test_lost_responses
    """
_FILES = """
    backends/test_adapter backends/test_bytes backends/test_damage
    backends/test_conditions backends/test_verdicts
    reliability/test_probe reliability/test_deletes
    """

# Modules of audmodel/core, and files in tests
TARGETS = {
    "repository/claim_record": _RECORDS,
    "repository/claims": _RECORDS,
    "repository/layout": _RECORDS + " behaviour/test_aliases repository/test_layout",
    "repository/changes": _RECORDS + " behaviour/test_aliases behaviour/test_meta",
    "repository/model_records": _RECORDS + " behaviour/test_meta",
    "repository/registry": _RECORDS + " behaviour/test_aliases behaviour/test_meta",
    "repository/header": _RECORDS,
    "repository/conflicts": _RECORDS + " behaviour/test_conflicts",
    "repository/deletion": _RECORDS,
    "repository/orphans": _RECORDS,
    "repository/pointing": _RECORDS,
    "repository/probe": _RECORDS,
    "operations/committing": _RECORDS + " behaviour/test_copy",
    "operations/copy_plans": "behaviour/test_copy",
    "operations/copying": "behaviour/test_copy",
    "operations/publishing": _RECORDS + " operations/test_folder",
    "operations/verification": _CACHE,
    "operations/index": _CACHE + " operations/test_index operations/test_access",
    "operations/seeds": "operations/test_seeds reliability/test_seeds",
    "archive/reader": _ARCHIVE + " operations/test_seeds",
    "archive/decoding": _ARCHIVE,
    "archive/existing": _ARCHIVE + " operations/test_seeds",
    "archive/fetching": _ARCHIVE,
    "archive/parsing": _ARCHIVE,
    "archive/parts": _ARCHIVE,
    "archive/deflate": _ARCHIVE,
    "archive/member_file": _ARCHIVE,
    "archive/names": _ARCHIVE,
    "archive/checker": _ARCHIVE,
    "archive/passing": "archive/test_passing behaviour/test_copy",
    "archive/seeds": _ARCHIVE + " operations/test_seeds",
    "archive/comparing": _ARCHIVE,
    "cache/location": _CACHE,
    "cache/tree": _CACHE + " archive/test_resume archive/test_reader",
    "cache/staging": _CACHE + " archive/test_resume archive/test_reader",
    "cache/slot": _CACHE + " archive/test_resume",
    "cache/marker": _CACHE + " archive/test_resume",
    "cache/locks": _CACHE,
    "cache/eviction": _CACHE,
    "cache/alias_cache": _CACHE,
    "cache/entry": _CACHE,
    "cache/neighbours": "cache/test_neighbours operations/test_seeds",
    "backend/conditions": _FILES + _S3,
    "backend/file_locks": _FILES + " reliability/test_locks",
    "backend/filesystem": _FILES
    + " reliability/test_locks operations/test_concurrency",
    "backend/s3/conditions": _S3,
    "backend/s3/multipart": _S3,
    "backend/s3/upload": _S3,
    "backend/s3/verdicts": _S3,
    "backend/s3/responses": _S3,
    "backend/http/pace": _HTTP,
    "backend/http/connections": _HTTP,
    "backend/http/transfer": _HTTP,
    "backend/http/backend": _HTTP,
    "backend/http/ranges": _HTTP,
    "backend/http/store": _HTTP,
}

# Of parallel processes alone, or of packages that are not always there
_SEPARATE = ("ecosystem", "parallel")


def modules() -> dict[str, list[str]]:
    """Paths of modules and of the tests of each, from the root of the project."""
    return {
        f"audmodel/core/{module}.py": [
            f"tests/{test}.py" for test in dict.fromkeys(tests.split())
        ]
        for module, tests in TARGETS.items()
    }


def others(path: str, first: float) -> list[str]:
    """Paths of further tests, which may notice a change of a module as well.

    Args:
        path: path of the module
        first: what share of the files comes last,
            so that processes which measure them begin at different ones

    """
    files = sorted(
        str(file)
        for file in Path("tests").glob("*/test_*.py")
        if file.parent.name not in _SEPARATE and str(file) not in modules()[path]
    )
    start = int(len(files) * first)
    return files[start:] + files[:start]
