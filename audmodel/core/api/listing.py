r"""List the files of a model, and the models of repositories."""

from __future__ import annotations

from collections.abc import Mapping
import warnings

from audmodel.core import uid as ids
from audmodel.core.api.arguments import chosen
from audmodel.core.api.arguments import model_filter
from audmodel.core.api.arguments import wanted_model
from audmodel.core.operations.results import Model
from audmodel.core.operations.results import ModelFile
from audmodel.core.process.workers import check_num_workers
from audmodel.core.progress.report import Reporter
from audmodel.core.progress.views import ShowProgress
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import ModelId


def files(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> list[ModelFile]:
    r"""Files of a model.

    They are read from the directory of the archive,
    which is kept in the cache.
    No other part of the archive is fetched.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        files, in the order of the archive

    Raises:
        TypeError: if an argument is of the wrong type
        ArchiveError: if the archive is damaged or not the published one
        CacheError: if a backend can give nothing but whole files,
            and the cache cannot be written to
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> for file in audmodel.files("3e120e8d-1.0.0"):
        ...     print(file.path, file.size)
        log/eval.yaml 10
        model.onnx 16384
        model.yaml 31
        readme.txt 29

    """
    from audmodel.core.operations.archives import find_directory

    directory = find_directory(wanted_model(uid, cache_root, repository))
    return [
        ModelFile(member.name, member.size, member.compressed_size)
        for member in directory.files()
    ]


def models(
    *,
    name: str | None = None,
    subgroup: str | None = None,
    params: Mapping[str, object] | None = None,
    alias: str | None = None,
    author: str | None = None,
    sizes: bool = False,
    repository: Repository | str | None = None,
    catalog: bool = False,
    cache_root: str | None = None,
    num_workers: int | None = None,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> list[Model]:
    r"""Models in the repositories.

    The result is made for tables:
    ``pandas.DataFrame(audmodel.models())``.

    ``name``, ``subgroup``, ``alias``, and ``author``
    are values or patterns.
    In a pattern ``*`` stands for any characters,
    ``?`` for one character, and ``[abc]`` for one of several.
    A model has to match all of these arguments that are given.

    A record that cannot be read is left out with a warning.

    Args:
        name: name of the model, or pattern
        subgroup: subgroup of the model, or pattern
        params: parameters that a model has to have, among others,
            with the same values.
            They are compared as in model IDs:
            ``1``, ``1.0`` and ``True`` are different values,
            and NaN is the same as NaN.
            Of nested dictionaries only the given keys are compared
        alias: alias that points to the model, or pattern
        author: author of the model, or pattern
        sizes: whether to ask the storage for sizes that headers lack,
            those of models of earlier releases, with one request for each.
            The others take no request
        repository: the only repository to list,
            or its label or name in the configuration.
            All that are configured are listed if it is ``None``
        catalog: whether to take headers from the list of models
            that :func:`audmodel.build_catalog` has published,
            which is one request instead of one for each model.
            The repository itself says which models and aliases there are,
            and headers that the list lacks are read.
            A model that was deleted since, and published again under its ID,
            may be shown as it was before
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``.
            Headers that are in it are not read again
        num_workers: number of records that are read at the same time,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar
        progress: function or bar that is told of the progress, see :doc:`/progress`

    Returns:
        models, in the order of subgroup, name, parameters, and version.
        A model that several repositories hold
        is listed for the first of them

    Raises:
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer
        ConfigurationError: if the configuration cannot be used
        InvalidDataError: if ``params`` hold something that cannot be stored
        InvalidInputError: if no configured repository has the name
        RepositoryError: if a repository cannot be used

    Examples:
        >>> for model in audmodel.models(subgroup="emotion.*", author="sphinx"):
        ...     print(model.uid, model.name, model.aliases)
        3e120e8d-1.0.0 onnx ['emotion-small']
        3e120e8d-2.0.0 onnx []
        >>> audmodel.models(params={"sampling_rate": 8000})
        []

    """
    from audmodel.core.operations import catalogue
    from audmodel.core.operations import site_list
    from audmodel.core.repository.lookup import each

    reporter = Reporter(verbose=verbose, progress=progress)
    num_workers = check_num_workers(num_workers)
    wanted = model_filter(
        name=name, subgroup=subgroup, params=params, alias=alias, author=author
    )
    repositories = chosen(repository)
    cache_root = cache_folder(cache_root)
    with reporter.report("Read models", "records") as start_progress:
        found = each(
            lambda registry: catalogue.read(
                registry,
                wanted,
                cache_root,
                num_workers=num_workers,
                start_progress=start_progress,
                sizes=sizes,
                known=site_list.known_headers(registry.backend) if catalog else None,
            ),
            repositories,
        )
    targets: dict[str, ModelId] = {}
    listed: dict[ModelId, Model] = {}
    for _, part in found:
        targets = {**part.aliases, **targets}
        for problem in part.problems:
            warnings.warn(f"{problem} It is left out.", stacklevel=2)
    names: dict[ModelId, list[str]] = {}
    for target_name, target in targets.items():
        names.setdefault(target, []).append(target_name)
    for holder, part in found:
        for model, header in part.headers.items():
            aliases = sorted(names.get(model, []))
            if model not in listed and wanted.matches_alias(aliases):
                listed[model] = Model(
                    str(model),
                    header.name,
                    header.subgroup,
                    header.version,
                    header.parameters,
                    header.author,
                    str(header.date),
                    aliases,
                    holder,
                    part.sizes.get(model),
                )
    return _in_order(listed)


def _in_order(listed: Mapping[ModelId, Model]) -> list[Model]:
    r"""Models in the order of subgroup, name, parameters, and version."""
    versions = ids.sort_versions({model.version for model in listed})
    rank = {version: number for number, version in enumerate(versions)}

    def position(model: ModelId) -> tuple[str, str, str, int]:
        found = listed[model]
        return found.subgroup, found.name, model.short, rank[model.version]

    return [listed[model] for model in sorted(listed, key=position)]
