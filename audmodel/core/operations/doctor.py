r"""Find out what keeps this installation from working, or from being fast."""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

from audmodel.core import units
from audmodel.core.backend.errors import HiddenError
from audmodel.core.cache import checkup as cache_checkup
from audmodel.core.diagnosis import Check
from audmodel.core.diagnosis import Diagnosis
from audmodel.core.diagnosis import Outcome
from audmodel.core.diagnosis import ok
from audmodel.core.diagnosis import unknown
from audmodel.core.diagnosis import warning
from audmodel.core.errors import ConfigurationError
from audmodel.core.operations import measuring
from audmodel.core.operations import versions
from audmodel.core.operations.examining import Examination
from audmodel.core.operations.measuring import Measurement
from audmodel.core.operations.sampling import Sample
from audmodel.core.operations.sampling import open_sample
from audmodel.core.repository import settings
from audmodel.core.repository.checkup import Checkup
from audmodel.core.repository.config import default_cache_root
from audmodel.core.repository.lookup import configured
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.repository import Repository


# Seconds for the checks of each topic, and for tests and measurements
_SECONDS = 20.0
_LONG = 60.0
VERSIONS = "versions"
SETTINGS = "settings"
CACHE = "cache"
_SHOWN = {
    "ok": "ok     ",
    "warning": "WARNING",
    "failed": "FAILED ",
    "unknown": "unknown",
}
_NO_MODEL = "no model was found that can be read"


@dataclass(frozen=True)
class DoctorReport:
    r"""What :func:`audmodel.doctor` has found.

    Args:
        diagnoses: result of each check
        measurements: speeds of repositories, if they were measured

    """

    __module__ = "audmodel"

    diagnoses: tuple[Diagnosis, ...]
    measurements: tuple[Measurement, ...] = ()

    @property
    def ok(self) -> bool:
        r"""Whether no check has failed."""
        return not self.failed

    @property
    def failed(self) -> list[Diagnosis]:
        r"""Checks that have failed."""
        return [each for each in self.diagnoses if each.state == "failed"]

    def __str__(self) -> str:
        lines: list[str] = []
        topic = None
        for each in self.diagnoses:
            if each.topic != topic:
                topic = each.topic
                lines += ["", topic] if lines else [topic]
            lines.append(f"  {_SHOWN[each.state]}  {each.name}: {each.seen}")
            if each.advice:
                lines.append(f"           {each.advice}")
        names = ", ".join(f"{each.name} ({each.topic})" for each in self.failed)
        verdict = f"Failed: {names}." if names else "No check has failed."
        return "\n".join([*lines, "", verdict])


def examine(
    repositories: Sequence[Repository] | None,
    cache_root: str | None,
    *,
    write: bool,
    measure: bool,
) -> DoctorReport:
    r"""Carry out all checks.

    Args:
        repositories: repositories to check,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        write: whether objects may be stored in the repositories
        measure: whether to measure their speed

    """
    visits = [
        _Visit(each, write=write, measure=measure)
        for each in (_configured() if repositories is None else repositories)
    ]
    found = _results(
        Examination(VERSIONS, versions.checks(), _SECONDS),
        Examination(SETTINGS, settings.checks(), _SECONDS),
        Examination(CACHE, _cache_checks(cache_root), _SECONDS),
        *(
            Examination(visit.topic, visit.checks(), _LONG if write else _SECONDS)
            for visit in visits
        ),
    )
    for visit in visits:
        if measure and visit.is_readable:
            # One after the other, as they would share the network
            found += _results(Examination(visit.topic, visit.measures(), _LONG))
    topics = [VERSIONS, SETTINGS, CACHE, *(visit.topic for visit in visits)]
    found.sort(key=lambda each: topics.index(each.topic))
    measurements = [each for visit in visits for each in visit.measurements]
    return DoctorReport(tuple(found), tuple(measurements))


def _configured() -> list[Repository]:
    try:
        return configured()
    except ConfigurationError:
        return []  # the check of the settings says why


def _results(*examinations: Examination) -> list[Diagnosis]:
    try:
        return [found for each in examinations for found in each.result()]
    finally:
        for each in examinations:
            each.cancel()


def _cache_checks(root: str | None) -> Iterator[Check]:
    if root is None:
        try:
            root = default_cache_root()
        except ConfigurationError:
            seen = "not known, since the configuration cannot be used"
            yield "folder", lambda: [unknown("folder", seen)]
            return
    yield from cache_checkup.checks(root)


class _Visit:
    r"""Checks of one repository, and what they need to know of each other."""

    def __init__(self, repository: Repository, *, write: bool, measure: bool) -> None:
        self.topic = repr(repository)
        self.measurements: list[Measurement] = []
        self._repository = repository
        self._measure = measure
        self._checkup = Checkup(repository, write=write)

    @property
    def is_readable(self) -> bool:
        return self._checkup.is_readable

    def checks(self) -> Iterator[Check]:
        yield from self._checkup.checks()
        if self.is_readable:
            yield "ranges", self._read_ranges

    def measures(self) -> Iterator[Check]:
        yield "num_workers", self._measure_speed

    def _read_ranges(self) -> Iterator[Outcome]:
        with open_registry(self._repository) as registry:
            if not registry.backend.has_ranges:
                seen = "the class of the backend fetches whole files only"
                yield warning("ranges", seen, "Loads of some files fetch all of them.")
                return
            try:
                with open_sample(registry) as sample:
                    yield from self._describe(sample)
            except HiddenError as error:
                yield unknown("ranges", str(error))

    def _describe(self, sample: Sample | None) -> Iterator[Outcome]:
        if sample is None:
            yield unknown("ranges", _NO_MODEL)
            return
        size = units.size(sample.reader.size)
        seen = f"the directory of '{sample.model}', of {size}, was read, and is right"
        yield ok("ranges", seen)
        if not self._measure and sample.reader.size >= measuring.LEAST:
            seen = "the speed was not measured"
            yield unknown("num_workers", seen, "Ask for it (--measure).")

    def _measure_speed(self) -> Iterator[Outcome]:
        with open_registry(self._repository) as registry:
            if not registry.backend.has_ranges:
                return
            with open_sample(registry) as sample:
                if sample is None:
                    yield unknown("num_workers", _NO_MODEL)
                elif sample.reader.size < measuring.LEAST:
                    size = units.size(sample.reader.size)
                    seen = f"'{sample.model}' is too small to measure speed: {size}"
                    yield unknown("num_workers", seen)
                else:
                    found = measuring.measure(
                        sample, self._repository, versions.cores()
                    )
                    self.measurements.append(found)
                    yield ok("num_workers", str(found))
