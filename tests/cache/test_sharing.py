"""`cache status`: which processes are working on features, and why earlier ones stopped."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from click.testing import Result

from ser_pipeline.cache.housekeeping import verify
from ser_pipeline.claims import FAILED, Claims
from ser_pipeline.parts import ALONE
from support.sounds import write_emodb
from support.workers import until


def test_parts_are_listed_with_who_since_when_and_why(run: Callable[..., Result]) -> None:
    claims = Claims(Path("cache/features/.claims"))
    dead = Claims(claims.folder, holder=replace(claims.holder, started="before"))
    assert claims.take("emodb-0123456789ab/vector-000")
    assert dead.take("emodb-0123456789ab/vector-001")
    failed = claims.take("emodb-0123456789ab/vector-002")
    assert failed
    claims.let_go(failed, FAILED, "no space left\non the disk")
    rows = [line.split("\t") for line in run("cache", "status").stdout.splitlines()]
    who = f"process {claims.holder.process} on {claims.holder.host}"
    states = [(row[0], row[1], row[2]) for row in rows]
    assert states == [("emodb-0123456789ab", f"vector-00{n}", s) for n, s in enumerate(("held", "left", "failed"))]
    assert {row[3] for row in rows} == {who}
    assert [row[5:] for row in rows] == [[], [], ["no space left on the disk"]]


def test_nobody_is_at_work_on_whole_features(run: Callable[..., Result], tmp_path: Path) -> None:
    corpus = write_emodb(tmp_path / "corpus", speakers=2, takes=1)
    run("features", "emodb", corpus, "--feature", "mfcc")
    said = run("cache", "status")
    assert (said.stdout, said.stderr) == ("", "no process is at work in cache\n")


def test_verify_waits_for_who_is_at_work(run: Callable[..., Result], tmp_path: Path) -> None:
    folder = Path(run("features", "emodb", write_emodb(tmp_path / "corpus", speakers=2, takes=1)).stdout.strip())
    claims, ended = Claims.beside(folder), list[object]()
    claim = claims.take(f"{folder.name}/segment-000")
    assert claim
    thread = threading.Thread(target=lambda: ended.append(verify(Path("cache"))))
    thread.start()
    until((claims.folder / folder.name / ALONE).exists)
    assert not ended
    claims.let_go(claim)
    thread.join()
    assert ended == [[]]
