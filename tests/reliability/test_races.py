"""Many publish the same model, change the same records, at the same time."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import itertools
from pathlib import Path
import textwrap
from typing import Any

import pytest

import audmodel
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.operations import publishing
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from tests.behaviour.backends import BACKENDS
from tests.behaviour.backends import content
from tests.behaviour.backends import file_system
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import s3
from tests.processes import Interpreter
from tests.reliability.conftest import patience


# Of each family of faults
pytestmark = pytest.mark.sample(1)


Count = Callable[[str, int], None]

# Runs a function in forks of a process that has imported everything
RACE = textwrap.dedent(
    """
    import audmodel.core.operations.loading
    import audmodel.core.operations.publishing
    import audmodel.core.repository.lookup
    import shutil, tempfile, traceback
    # Forks must not share connections
    def race(count, function):
        folder = tempfile.mkdtemp()
        wait, go = os.pipe()
        pids = []
        for number in range(count):
            pid = os.fork()
            if not pid:
                os.close(go)
                os.read(wait, 1)
                try:
                    result = function(number)
                except BaseException:
                    result = traceback.format_exc()
                with open(os.path.join(folder, str(number)), "w") as file:
                    json.dump(result, file)
                os._exit(0)
            pids.append(pid)
        os.close(wait)
        os.close(go)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        results = []
        for number in range(count):
            with open(os.path.join(folder, str(number))) as file:
                results.append(json.load(file))
        shutil.rmtree(folder)
        return results
    """
)


@pytest.fixture(params=["file-system", "s3"])
def place(request: pytest.FixtureRequest, cache: Path) -> Iterator[audmodel.Repository]:
    """An empty repository."""
    enter = {"file-system": file_system, "s3": s3}[request.param]
    with enter(request) as repository:
        audmodel.config.REPOSITORIES = [repository]
        yield repository


def is_local(place: audmodel.Repository) -> bool:
    return place.backend == "file-system"


@pytest.fixture
def run(python: Interpreter, tmp_path: Path) -> Callable[..., Any]:
    """Run code that may call race()."""

    def run(code: str, **arguments: Any) -> Any:
        code = RACE + textwrap.dedent(code)
        process = python.start(code, tmp=str(tmp_path), **arguments)
        return process.result(patience())

    return run


# Publishers ----------------------------------------------------------------


PUBLISHERS = """
    def publish(number):
        root = os.path.join(args["tmp"], "roots", str(number))
        start = time.monotonic()
        try:
            audmodel.publish(
                root, "torch", {}, version, author=str(number), num_workers=2,
                meta={"of": number}, alias=f"best-{version}", subgroup="a.b",
            )
            outcome = "won"
        except (
            audmodel.errors.ModelExistsError, audmodel.errors.PublishConflictError
        ) as error:
            outcome = type(error).__name__
        return [outcome, time.monotonic() - start]
    for number in range(args["count"]):
        root = os.path.join(args["tmp"], "roots", str(number))
        os.makedirs(root, exist_ok=True)
        for name in ("a", f"of-{number}"):
            with open(os.path.join(root, name), "w") as file:
                file.write(f"{number}\\n" * 20_000)
    rounds = []
    for n in range(args["rounds"]):
        version = f"{n}.0.0"
        rounds.append(race(args["count"], publish))
    return rounds
"""


@pytest.mark.parametrize("number", [2, 32])
def test_one_publisher_wins(
    number: int,
    place: audmodel.Repository,
    run: Callable[..., Any],
    torture: int,
    count: Count,
) -> None:
    if is_local(place):
        rounds = 200 * torture or 5
    else:
        number = min(number, 8 if torture else 4)
        rounds = 50 * torture or 2
    if number == 2:
        rounds = (rounds + 3) // 4
    results = run(PUBLISHERS, count=number, rounds=rounds)
    for n, outcomes in enumerate(results):
        (winner,) = (i for i, (outcome, _) in enumerate(outcomes) if outcome == "won")
        for outcome, seconds in outcomes:
            assert outcome in ("won", "ModelExistsError", "PublishConflictError")
            assert seconds < 60
        uid = audmodel.uid("torch", {}, f"{n}.0.0", subgroup="a.b")
        assert audmodel.author(uid) == str(winner)
        assert audmodel.meta(uid) == {"of": winner}
        assert audmodel.aliases(uid) == [f"best-{n}.0.0"]
        assert audmodel.resolve_alias(f"best-{n}.0.0") == uid
        text = f"{winner}\n".encode() * 20_000
        assert files(audmodel.load(uid)) == {"a": text, f"of-{winner}": text}
    # Archive, header, metadata, alias and list of aliases, and nothing else
    assert len(content(place)) == 5 * rounds
    where = f"{place.backend}, {number} at once"
    count(f"publishers of one model ({where})", number * rounds)
    count(f"races of publishers, one whole winner ({where})", rounds)


READERS = """
    def work(number):
        if number == 0:
            for n in range(args["rounds"]):
                audmodel.publish(
                    args["root"], "torch", {}, f"{n}.0.0", alias="best", meta={"n": n}
                )
            return None
        looks = 0
        for n in range(args["rounds"]):
            uid = audmodel.uid("torch", {}, f"{n}.0.0")
            cache = os.path.join(args["tmp"], f"cache-{number}")
            while True:
                looks += 1
                try:
                    # The latest one, and the one that comes next
                    newest = audmodel.load(args["short"], cache_root=cache)
                    assert sorted(os.listdir(newest)) == args["names"]
                    root = audmodel.load(uid, cache_root=cache)
                    break
                except audmodel.errors.ModelNotFoundError:
                    pass
            assert sorted(os.listdir(root)) == args["names"]
            assert audmodel.meta(uid) == {"n": n}
            shutil.rmtree(cache)
        return looks
    return race(3, work)
"""


@pytest.mark.thorough
def test_readers_see_a_whole_model_or_none(
    place: audmodel.Repository,
    run: Callable[..., Any],
    model_folder: Path,
    torture: int,
    count: Count,
) -> None:
    rounds = (100 if is_local(place) else 10) * (1 + 2 * torture)
    names = sorted(path.name for path in model_folder.iterdir())
    short = audmodel.uid("torch", {})
    results = run(
        READERS, rounds=rounds, root=str(model_folder), names=names, short=short
    )
    assert results[0] is None
    assert all(isinstance(looks, int) for looks in results[1:]), results
    count(
        f"looks at models being published, whole or absent ({place.backend})",
        sum(results[1:]),
    )


# Updates -------------------------------------------------------------------


UPDATES = """
    def update(number):
        for n in range(args["rounds"]):
            key = f"{number}-{n}"
            last = {str(number): n}
            result = audmodel.update_meta(args["uid"], {key: n, "shared": last})
            assert result[key] == n
    return race(args["count"], update)
"""


def test_no_update_of_metadata_is_lost(
    place: audmodel.Repository,
    run: Callable[..., Any],
    model_folder: Path,
    torture: int,
    count: Count,
) -> None:
    number, rounds = (16, 50 * torture or 10) if is_local(place) else (4, 3)
    if torture and not is_local(place):
        # Writers of one object wait long for each other there
        number, rounds = 8, 10 * torture
    uid = publish(model_folder, meta={"shared": {}})
    results = run(UPDATES, count=number, rounds=rounds, uid=uid)
    assert results == [None] * number
    keys = {f"{i}-{n}": n for i in range(number) for n in range(rounds)}
    last = {str(i): rounds - 1 for i in range(number)}
    assert audmodel.meta(uid) == {"shared": last, **keys}
    count(
        f"concurrent updates of metadata, all kept ({place.backend})", number * rounds
    )


MOVES = """
    def move(number):
        moves = []
        for n in range(args["rounds"]):
            target = args["uids"][(number * 7 + n) % len(args["uids"])]
            start = time.clock_gettime(time.CLOCK_MONOTONIC)
            audmodel.set_alias("best", target)
            moves.append([start, time.clock_gettime(time.CLOCK_MONOTONIC), target])
            audmodel.set_alias(f"own-{number}", target)
        return moves
    return race(args["count"], move)
"""


def test_aliases_end_in_a_state_that_some_order_explains(
    place: audmodel.Repository,
    run: Callable[..., Any],
    model_folder: Path,
    torture: int,
    count: Count,
) -> None:
    uids = [publish(model_folder, version=f"{n}.0.0") for n in range(3)]
    number, rounds = (8, 40 * torture or 8) if is_local(place) else (3, 2)
    if torture and not is_local(place):
        number, rounds = 8, 5 * torture
    results = run(MOVES, count=number, rounds=rounds, uids=uids)
    moves = [tuple(move) for result in results for move in result]
    target = audmodel.resolve_alias("best")
    # Whoever was done before another one began cannot have been the last
    last_start = max(start for start, _, _ in moves)
    assert target in {uid for _, end, uid in moves if end >= last_start}
    expected: dict[str, str] = {"best": target}
    for i, result in enumerate(results):
        expected[f"own-{i}"] = result[-1][2]
    for alias, uid in expected.items():
        assert audmodel.resolve_alias(alias) == uid
    for uid in uids:
        listed = sorted(alias for alias, owner in expected.items() if owner == uid)
        assert audmodel.aliases(uid) == listed
    count(
        f"concurrent moves of aliases, both directions agree ({place.backend})",
        2 * number * rounds,
    )


TURNS = """
    def move(number):
        for n in range(args["rounds"]):
            uid = args["uids"][number][n % 2]
            audmodel.set_alias("best", uid, author=f"{number}-{n}")
    return race(args["count"], move)
"""


def test_no_move_of_an_alias_is_lost(
    place: audmodel.Repository,
    run: Callable[..., Any],
    model_folder: Path,
    torture: int,
    count: Count,
) -> None:
    # As many as a history holds: each is to another model than that of the others
    number, rounds = (5, 6) if is_local(place) or torture else (3, 2)
    uids = [publish(model_folder, version=f"{n}.0.0") for n in range(2 * number)]
    pairs = [uids[2 * n : 2 * n + 2] for n in range(number)]
    for _ in range(torture or 1):
        results = run(TURNS, count=number, rounds=rounds, uids=pairs)
        assert results == [None] * number
        moves = audmodel.alias_history("best")[-number * rounds :]
        assert sorted(str(move.author) for move in moves) == sorted(
            f"{i}-{n}" for i in range(number) for n in range(rounds)
        )
        for before, after in itertools.pairwise(moves):
            assert after.previous == before.uid
        assert moves[-1].uid == audmodel.resolve_alias("best")
    count(
        f"concurrent moves of an alias, all in its history ({place.backend})",
        number * rounds * (torture or 1),
    )


ROLLBACKS = """
    def back(number):
        try:
            return audmodel.rollback("best", author=str(number))
        except audmodel.errors.PublishConflictError:
            return None
        except audmodel.errors.InvalidInputError:
            return None
    return race(args["count"], back)
"""


def test_a_move_is_rolled_back_once(
    place: audmodel.Repository, run: Callable[..., Any], model_folder: Path
) -> None:
    uids = [publish(model_folder, version=f"{n}.0.0") for n in range(4)]
    for uid in uids:
        audmodel.set_alias("best", uid)
    done = [uid for uid in run(ROLLBACKS, count=6) if uid]
    moves = audmodel.alias_history("best")
    # Each undid the move that it had seen, one after the other
    assert [move.uid for move in moves] == [*uids, *uids[::-1][1:][: len(done)]]
    assert sorted(done) == sorted(move.uid for move in moves[4:])
    target = moves[-1].uid
    assert audmodel.resolve_alias("best") == target
    for uid in uids:
        assert audmodel.aliases(uid) == (["best"] if uid == target else [])


# Loaders -------------------------------------------------------------------


LOADERS = """
    from audmodel.core.backend.filesystem import FileSystem
    class Counting(FileSystem):
        def open_object(self, path, **kwargs):
            with open(os.path.join(args["tmp"], "log"), "a") as file:
                file.write(path + "\\n")
            return super().open_object(path, **kwargs)
    audmodel.Repository.register("file-system", Counting)
    import errno, fcntl
    def flock(fd, operation):
        if args["locks"] != "do nothing":
            raise OSError(getattr(errno, args["locks"]), "no locks here")
    if args["locks"] != "work":
        fcntl.flock = flock
    results = []
    for uid in args["uids"]:
        load = lambda number: audmodel.load(uid, num_workers=1 + number % 3)
        results.append(race(args["count"], load))
    return results
"""


# Deletions -------------------------------------------------------------------


DELETERS = """
    def root_of(number):
        root = os.path.join(args["tmp"], "roots", str(number))
        os.makedirs(root, exist_ok=True)
        with open(os.path.join(root, "file"), "w") as file:
            file.write(f"{number}\\n" * 20_000)
        return root

    def publish(number, version):
        return audmodel.publish(
            root_of(number), "torch", {}, version, meta={"of": number}, author="a"
        )

    def act(number):
        uid, what = uids[-1], args["actors"][number]
        cache = os.path.join(args["tmp"], "caches", f"{n}-{number}")
        try:
            if what == "delete":
                audmodel.delete(uid, aliases=args["aliases"])
            elif what == "publish":
                publish(1, uid.partition("-")[2])
            elif what == "set_alias":
                audmodel.set_alias(f"of-{n}", uid)
            elif what == "update_meta":
                audmodel.update_meta(uid, {"more": number})
            else:
                path = os.path.join(audmodel.load(uid, cache_root=cache), "file")
                return open(path).readline().strip()
            return "done"
        except audmodel.errors.AudmodelError as error:
            return type(error).__name__

    rounds, uids = [], []
    for n in range(args["rounds"]):
        uids.append(publish(0, f"{n}.0.0"))
        rounds.append(race(len(args["actors"]), act))
    return [uids, rounds]
"""
FAILED = {
    "ModelExistsError",
    "ModelInUseError",
    "ModelNotFoundError",
    "PublishConflictError",
}


@pytest.mark.thorough
@pytest.mark.parametrize("aliases", [False, True])
@pytest.mark.parametrize(
    "actors",
    [
        ["delete", "delete", "delete"],
        ["delete", "publish", "load"],
        ["delete", "set_alias", "update_meta"],
        ["delete", "delete", "publish", "set_alias", "update_meta", "load"],
    ],
)
def test_deletion_and_others(
    actors: list[str],
    aliases: bool,
    place: audmodel.Repository,
    run: Callable[..., Any],
    torture: int,
    count: Count,
) -> None:
    rounds = 50 * torture or 10
    uids, results = run(DELETERS, actors=actors, aliases=aliases, rounds=rounds)
    for number, (uid, outcomes) in enumerate(zip(uids, results, strict=True)):
        outcome = dict(zip(reversed(actors), reversed(outcomes), strict=True))
        assert {*outcomes} <= {"done", "0", "1", *FAILED}, outcomes
        assert outcome.get("load") not in ("done", "ModelExistsError")
        deleted = [
            result
            for actor, result in zip(actors, outcomes, strict=True)
            if (actor, result) == ("delete", "done")
        ]
        published = outcome.get("publish") == "done"
        assert len(deleted) <= 1 + published
        assert not published or deleted
        exists = audmodel.exists(uid)
        # No alias points to nothing
        target = audmodel.all_aliases().get(f"of-{number}")
        assert target in (None, uid)
        assert exists or target is None, outcomes
        if exists:
            winner = 1 if published else 0
            content_of = Path(audmodel.load(uid)) / "file"
            assert content_of.read_text().startswith(f"{winner}\n")
            assert audmodel.meta(uid)["of"] == winner
            audmodel.remove_cached(uid)
            audmodel.delete(uid, aliases=True)
    assert content(place) == {}
    count(f"deletions and others at the same time ({place.backend})", rounds)


COPIERS = """
    def copy(number):
        source = audmodel.Repository("models", args["source"], "file-system")
        target = audmodel.config.REPOSITORIES[0]
        try:
            audmodel.sync(source, target, num_workers=2)
            return "done"
        except audmodel.errors.PublishConflictError:
            return "conflict"
    return [race(4, copy) for _ in range(args["rounds"])]
"""


@pytest.mark.thorough
def test_copiers_of_the_same_models(
    place: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    run: Callable[..., Any],
    torture: int,
    count: Count,
) -> None:
    (tmp_path / "source" / "models").mkdir(parents=True)
    source = audmodel.Repository("models", str(tmp_path / "source"), "file-system")
    rounds = 20 * torture or 2
    for number in range(rounds):
        for name in ("a", "b", "c"):
            version = f"{number}.0.0"
            publish(model_folder, name=name, version=version, repository=source)
        [outcomes] = run(COPIERS, source=source.host, rounds=1)
        assert {*outcomes} <= {"done", "conflict"}, outcomes
        assert "done" in outcomes
        audmodel.sync(source, place)
        assert content(place) == content(source)
    count(f"copies of the same models at the same time ({place.backend})", 4 * rounds)


@pytest.mark.parametrize("locks", ["work", "do nothing", "ENOSYS", "ENOLCK"])
def test_loaders_of_one_model(
    locks: str,
    repository: audmodel.Repository,
    run: Callable[..., Any],
    model_folder: Path,
    tmp_path: Path,
    torture: int,
    count: Count,
) -> None:
    number, models = (50, 10 * torture) if torture else (16, 4)
    (model_folder / "large").write_bytes(bytes(range(256)) * 20_000)
    uids = [publish(model_folder, version=f"{n}.0.0") for n in range(models)]
    results = run(LOADERS, count=number, uids=uids, locks=locks)
    expected = files(model_folder)
    for uid, roots in zip(uids, results, strict=True):
        assert roots == [audmodel.load(uid)] * number
        assert files(roots[0]) == expected
        assert not list(Path(roots[0]).parent.glob(".*~*"))
    fetched = len((tmp_path / "log").read_text().splitlines())
    if locks == "work":
        assert fetched == models
        count(f"loads by {number} processes, each model fetched once", number * models)
    else:
        count("loads with broken locks, all right", number * models)


@pytest.mark.parametrize("name", ["artifactory", "plain"])
def test_a_claim_that_is_overwritten(
    request: pytest.FixtureRequest,
    name: str,
    cache: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where nothing keeps publishers apart, the one that was overwritten stops."""
    model = ModelId(audmodel.uid("torch", {"sampling_rate": 16000}), "1.0.0")
    path = layout.record_path(model, "claim")
    with BACKENDS[name](request) as repository:
        audmodel.config.REPOSITORIES = [repository]

        class Writer(ArchiveWriter):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                with repository.connect() as backend:
                    backend.write_object(path, [b"id: other\n"])

        monkeypatch.setattr(publishing, "ArchiveWriter", Writer)
        with pytest.raises(audmodel.errors.PublishConflictError, match="same moment"):
            publish(model_folder)
        # What the other one has is not touched
        assert content(repository) == {path: b"id: other\n"}
