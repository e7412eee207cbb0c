r"""Versioned registry of machine learning models with parallel loading.

``from audmodel import *`` gives all names but :func:`open`,
which would replace the builtin.

"""

import importlib
from typing import TYPE_CHECKING
from typing import Any

from audmodel import errors as errors
from audmodel.core.api.access import open as open
from audmodel.core.api.access import readme as readme
from audmodel.core.api.access import stream as stream
from audmodel.core.api.aliases import alias_history as alias_history
from audmodel.core.api.aliases import aliases as aliases
from audmodel.core.api.aliases import all_aliases as all_aliases
from audmodel.core.api.aliases import delete_alias as delete_alias
from audmodel.core.api.aliases import resolve_alias as resolve_alias
from audmodel.core.api.aliases import rollback as rollback
from audmodel.core.api.aliases import set_alias as set_alias
from audmodel.core.api.cache import cached as cached
from audmodel.core.api.cache import prune_cache as prune_cache
from audmodel.core.api.cache import remove_cached as remove_cached
from audmodel.core.api.catalog import build_catalog as build_catalog
from audmodel.core.api.copying import copy as copy
from audmodel.core.api.copying import sync as sync
from audmodel.core.api.deletion import delete as delete
from audmodel.core.api.description import author as author
from audmodel.core.api.description import date as date
from audmodel.core.api.description import header as header
from audmodel.core.api.description import name as name
from audmodel.core.api.description import parameters as parameters
from audmodel.core.api.description import provenance as provenance
from audmodel.core.api.description import repository as repository
from audmodel.core.api.description import size as size
from audmodel.core.api.description import subgroup as subgroup
from audmodel.core.api.description import url as url
from audmodel.core.api.description import version as version
from audmodel.core.api.doctor import doctor as doctor
from audmodel.core.api.identity import exists as exists
from audmodel.core.api.identity import latest_version as latest_version
from audmodel.core.api.identity import legacy_uid as legacy_uid
from audmodel.core.api.identity import uid as uid
from audmodel.core.api.identity import versions as versions
from audmodel.core.api.listing import files as files
from audmodel.core.api.listing import models as models
from audmodel.core.api.metadata import meta as meta
from audmodel.core.api.metadata import update_meta as update_meta
from audmodel.core.api.models import load as load
from audmodel.core.api.models import publish as publish
from audmodel.core.api.plans import plan_load as plan_load
from audmodel.core.api.plans import plan_publish as plan_publish
from audmodel.core.api.repositories import audit_repository as audit_repository
from audmodel.core.api.repositories import check_repository as check_repository
from audmodel.core.api.repositories import leftovers as leftovers
from audmodel.core.api.signatures import sign as sign
from audmodel.core.api.signatures import signatures as signatures
from audmodel.core.api.verification import verify as verify
from audmodel.core.cache.results import CachedModel as CachedModel
from audmodel.core.operations.results import Catalog as Catalog
from audmodel.core.operations.results import CopiedModel as CopiedModel
from audmodel.core.operations.results import DamagedFile as DamagedFile
from audmodel.core.operations.results import DeletedModel as DeletedModel
from audmodel.core.operations.results import Model as Model
from audmodel.core.operations.results import ModelFile as ModelFile
from audmodel.core.operations.results import PublishPlan as PublishPlan
from audmodel.core.operations.results import Signature as Signature
from audmodel.core.operations.results import SuspiciousFile as SuspiciousFile
from audmodel.core.operations.results import Transfer as Transfer
from audmodel.core.operations.results import Verification as Verification
from audmodel.core.progress.counters import Progress as Progress
from audmodel.core.progress.views import ProgressBar as ProgressBar
from audmodel.core.repository.config import config as config
from audmodel.core.repository.config import default_cache_root as default_cache_root
from audmodel.core.repository.repository import Repository as Repository


if TYPE_CHECKING:
    from audmodel import parallel as parallel
    from audmodel.core.backend.conditions import Check as Check
    from audmodel.core.diagnosis import Diagnosis as Diagnosis
    from audmodel.core.operations.doctor import DoctorReport as DoctorReport
    from audmodel.core.operations.measuring import Measurement as Measurement
    from audmodel.core.operations.opening import OpenedFile as OpenedFile
    from audmodel.core.repository.alias_record import AliasMove as AliasMove
    from audmodel.core.repository.audit import Finding as Finding
    from audmodel.core.repository.orphans import Leftover as Leftover
    from audmodel.core.repository.probe import RepositoryReport as RepositoryReport
    from audmodel.core.repository.provenance import Provenance as Provenance


__version__ = "2.0.0"

# Without "open", which would replace the builtin
__all__ = [
    # Publish, load and use
    "publish",
    "load",
    "stream",
    "plan_load",
    "plan_publish",
    "verify",
    "sign",
    "signatures",
    "copy",
    "sync",
    "delete",
    # Find
    "models",
    "files",
    "exists",
    # Identify
    "uid",
    "legacy_uid",
    "versions",
    "latest_version",
    # Describe
    "header",
    "name",
    "parameters",
    "subgroup",
    "version",
    "author",
    "date",
    "provenance",
    "readme",
    "meta",
    "update_meta",
    "repository",
    "size",
    "url",
    # Aliases
    "set_alias",
    "resolve_alias",
    "aliases",
    "all_aliases",
    "delete_alias",
    "alias_history",
    "rollback",
    # Cache
    "cached",
    "remove_cached",
    "prune_cache",
    # Configuration
    "config",
    "default_cache_root",
    "Repository",
    # Repositories
    "build_catalog",
    "doctor",
    "check_repository",
    "audit_repository",
    "leftovers",
    # What functions return
    "AliasMove",
    "CachedModel",
    "Catalog",
    "Check",
    "CopiedModel",
    "DamagedFile",
    "DeletedModel",
    "Diagnosis",
    "DoctorReport",
    "Finding",
    "Leftover",
    "Measurement",
    "Model",
    "ModelFile",
    "OpenedFile",
    "Progress",
    "ProgressBar",
    "Provenance",
    "PublishPlan",
    "RepositoryReport",
    "Signature",
    "SuspiciousFile",
    "Transfer",
    "Verification",
    # Modules
    "errors",
    "parallel",
]

# What would slow down the import, by the module that has it
_LAZY = {
    "AliasMove": "audmodel.core.repository.alias_record",
    "Check": "audmodel.core.backend.conditions",
    "Diagnosis": "audmodel.core.diagnosis",
    "DoctorReport": "audmodel.core.operations.doctor",
    "Finding": "audmodel.core.repository.audit",
    "Leftover": "audmodel.core.repository.orphans",
    "Measurement": "audmodel.core.operations.measuring",
    "OpenedFile": "audmodel.core.operations.opening",
    "Provenance": "audmodel.core.repository.provenance",
    "RepositoryReport": "audmodel.core.repository.probe",
}

# Pickles, tracebacks and help() name what users import.
# Classes that are imported later do so themselves
for _name in ("open", *__all__):
    _value = globals().get(_name)
    if callable(_value):
        _value.__module__ = __name__


# Type checkers know the names from above, and should complain about others
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "parallel":
            return importlib.import_module("audmodel.parallel")
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(["__version__", "open", *__all__])
