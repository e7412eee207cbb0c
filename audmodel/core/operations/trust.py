r"""Who signed a model, and whether the configuration trusts them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
import datetime

from audmodel.core import uid as ids
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.errors import AudmodelError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import UntrustedModelError
from audmodel.core.operations.results import Signature
from audmodel.core.repository import header as header_module
from audmodel.core.repository import signatures
from audmodel.core.repository.config import needs_signatures
from audmodel.core.repository.config import trusted_file
from audmodel.core.repository.header import Header
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.repository import Repository
from audmodel.core.signing import signers as signers_module
from audmodel.core.signing import sshsig
from audmodel.core.signing.signers import Signer
from audmodel.core.signing.sshsig import SignatureError
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


def check(
    repository: Repository, model: ModelId, header: Header, content: bytes
) -> bytes | None:
    r"""Make sure that a model is signed, if its repository asks for it.

    Args:
        repository: where the model is
        model: ID of the model
        header: its header
        content: stored header

    Returns:
        signature that is trusted, ``None`` if none is needed

    Raises:
        ConfigurationError: if the file of trusted signers cannot be used
        RepositoryError: if the signatures cannot be read
        UntrustedModelError: if no trusted signer has signed it

    """
    trusted = _signers(repository, header)
    if trusted is None:
        return None
    problem = unsignable(model, header)
    if problem:
        raise _refused(model, repository, [problem])
    problems = []
    with open_registry(repository) as registry:
        for text in signatures.read(registry.backend, model):
            found = examine(text, content, trusted)
            if found.trusted:
                return text
            problems.append(f"{found.signer or found.key or 'one'}: {found.problem}")
    raise _refused(model, repository, problems)


def is_kept(entry: CacheEntry, repository: Repository) -> bool:
    r"""Whether the cache keeps a trusted signature, or none is needed.

    Args:
        entry: place of the model in the cache
        repository: where it came from

    Raises:
        ConfigurationError: if the file of trusted signers cannot be used

    """
    if not needs_signatures(repository):
        return True
    from audmodel.core.operations.local import Local

    content = entry.header.read(document.MAX_BYTES)
    text = entry.signatures.read(signatures.MAX_BYTES)
    if content is None or text is None:
        return False
    try:
        header = header_module.parse(content, entry.model, "The header")
    except InvalidDocumentError:
        return False
    if unsignable(entry.model, header):
        return False
    # Files may be from another repository
    if entry.slot is not None and not Local(entry).is_proven(header.archive):
        return False
    trusted = _signers(repository, header)
    return trusted is None or examine(text, content, trusted).trusted


def find(
    repository: Repository, model: ModelId, header: Header, content: bytes
) -> list[Signature]:
    r"""All signatures of a model, and what is wrong with each.

    Args:
        repository: where the model is
        model: ID of the model
        header: its header
        content: stored header

    Returns:
        signatures, in any order

    Raises:
        ConfigurationError: if the file of trusted signers cannot be used
        RepositoryError: if the signatures cannot be read

    """
    trusted = _signers(repository, header) or []
    with open_registry(repository) as registry:
        texts = list(signatures.read(registry.backend, model))
    found = [examine(text, content, trusted) for text in texts]
    problem = unsignable(model, header)
    if problem:
        return [replace(each, trusted=False, problem=problem) for each in found]
    return found


def examine(text: bytes, content: bytes, trusted: Iterable[Signer]) -> Signature:
    r"""Verify a signature.

    Args:
        text: its text form
        content: what should be signed
        trusted: signers that are trusted

    """
    key, name = "", ""
    try:
        signature = sshsig.parse(text)
        key = signature.fingerprint
        signature.check(content)
    except SignatureError as error:
        return Signature(name, key, valid=False, trusted=False, problem=str(error))
    known = [signer for signer in trusted if signer.key == signature.key]
    name = known[0].name if known else ""
    try:
        now = datetime.datetime.now(datetime.UTC)
        name = signers_module.signer_of(signature, known, now).name
    except SignatureError as error:
        return Signature(name, key, valid=True, trusted=False, problem=str(error))
    return Signature(name, key, valid=True, trusted=True)


def unsignable(model: ModelId, header: Header) -> str:
    r"""Why a signature of a header says nothing about a model, empty if it does.

    Args:
        model: ID of the model
        header: its header

    """
    if header.archive is None:
        return "its header does not identify the archive, as of earlier releases"
    try:
        short = ids.short_id(header.name, header.parameters, header.subgroup or None)
    except (AudmodelError, TypeError, ValueError) as error:
        return f"its header gives no model ID: {error}"
    if short != model.short:
        return f"its header is that of '{short}-{header.version}'"
    return ""


def _signers(repository: Repository, header: Header) -> list[Signer] | None:
    r"""Signers that are trusted with a model, ``None`` if none are needed."""
    path = trusted_file(repository, header.subgroup)
    return signers_module.read(path) if path else None if path is None else []


def _refused(
    model: ModelId, repository: Repository, problems: Iterable[str]
) -> UntrustedModelError:
    details = "; ".join(problems) or "it is not signed"
    return UntrustedModelError(
        f"The model '{model}' in {repository} is refused, "
        f"since no trusted signer has signed it ({details}). "
        "Let a signer that 'trusted' names in the configuration check and sign it "
        "with 'audmodel sign'."
    )
