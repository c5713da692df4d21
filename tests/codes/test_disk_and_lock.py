"""Several processes on one file, and a disk that is full: before the start, or in the middle."""

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from codes_tools import content, pretend

from cnncodes.codes import CodesFile, plan_extraction, run_extraction
from cnncodes.codes import rows as rows_module
from cnncodes.codes.rows import reserve
from cnncodes.codes.structure import layout
from cnncodes.core.errors import CnnCodesError, CodesFileError, DiskFullError, OutputBusyError
from cnncodes.core.outputs import locked
from cnncodes.images import read_catalog

HERE = Path(__file__).parent


@pytest.fixture
def plan_for(small_weights, photos):
    """``plan_for(path)``: 30 images, batches of 5, an encoder that only pretends."""

    def make(path, **options):
        few = read_catalog(photos).subset(range(30))
        layers = options.pop("layers", "pool5,fc7")
        plan = plan_extraction(few, path, small_weights, layers=layers, batch_size=5)
        pretend(plan, **options)
        return plan

    return make


def in_another_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start Python on ``code`` with this folder's modules at hand."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


HOLD = """
    import sys
    from pathlib import Path
    from cnncodes.core.outputs import locked
    with locked(Path(sys.argv[1])):
        sys.stdout.write("locked\\n")
        sys.stdout.flush()
        sys.stdin.read()  # until it is killed
"""


def test_a_second_process_on_the_same_output_is_refused_and_a_killed_one_does_not_block(plan_for, tmp_path):
    path = tmp_path / "codes.h5"
    other = in_another_process(HOLD, path)
    try:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(OutputBusyError, match=r"another process is writing '.*codes.h5'"):
            run_extraction(plan_for(path))
        assert not path.exists()
    finally:
        other.kill()
        other.communicate()
    lock = tmp_path / "codes.h5.lock"
    assert lock.exists(), "the killed process left its lock file"
    assert run_extraction(plan_for(path)).images == 30
    assert not lock.exists()


def test_the_lock_is_held_from_the_first_row_to_the_last_and_readers_are_not_refused(plan_for, tmp_path):
    path = tmp_path / "codes.h5"
    refused = []

    def while_it_runs(*_where):
        with pytest.raises(OutputBusyError), locked(path):
            pass
        with CodesFile(path) as codes:  # looking is allowed
            assert len(codes) == 30
        refused.append(True)

    run_extraction(plan_for(path), while_it_runs)
    assert len(refused) == 6
    assert [name.name for name in tmp_path.iterdir()] == ["codes.h5"]


def test_two_plans_made_at_the_same_time_do_not_overwrite_each_other(plan_for, tmp_path):
    path = tmp_path / "codes.h5"
    mine, other = plan_for(path), plan_for(path, layers="pool1")
    run_extraction(other)
    before = content(path)
    with pytest.raises(OutputBusyError, match="changed"):
        run_extraction(mine)
    assert content(path) == before


def test_a_lock_that_was_removed_under_our_hands_is_not_ours(tmp_path):
    path = tmp_path / "codes.h5"
    with locked(path):
        os.unlink(tmp_path / "codes.h5.lock")
        with locked(path):  # another process has made the file anew and holds it
            pass


FSIZE = """
    import json, resource, sys
    from dataclasses import replace
    from pathlib import Path
    from cnncodes.codes import plan_extraction, run_extraction
    from cnncodes.core.errors import CnnCodesError
    from cnncodes.images import read_catalog
    from cnncodes.weights import Preprocessing, load_weights
    from codes_tools import pretend
    weights = replace(load_weights("random:0", network="alexnet-tf"), preprocessing=Preprocessing(resize=64, crop=64))
    folder, output, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        plan = plan_extraction(read_catalog(folder), output, weights, layers="pool1")
        pretend(plan)
        run_extraction(plan)
        found = None
    except CnnCodesError as error:
        found = [type(error).__name__, error.problem, error.remedy]
    sys.stdout.write(json.dumps(found))
"""


def test_a_limit_on_file_sizes_is_an_error_before_the_start(photos, tmp_path):
    """40 x 64 x 7 x 7 floats are 0.50 MB; 0.4 MB is allowed."""
    other = in_another_process(FSIZE, photos, tmp_path / "codes.h5", 4 * 10**5)
    out, problems = other.communicate(timeout=600)
    assert other.returncode == 0, problems
    kind, problem, remedy = json.loads(out)
    assert kind == "DiskFullError"
    assert "0.001 GB" in problem
    assert "--dtype float16" in remedy
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_an_error_before_the_start_with_both_numbers(small_disk, plan_for):
    with pytest.raises(
        DiskFullError, match=rf"need 0\.\d+ GB .* 0\.00\d GB can be had at '{small_disk}'"
    ) as caught:
        plan_for(small_disk / "codes.h5", layers="fc6,fc7,conv1")
    assert "-o" in caught.value.remedy
    assert list(small_disk.iterdir()) == []


def test_space_that_vanishes_between_planning_and_writing_is_an_error_and_leaves_nothing(
    small_disk, plan_for
):
    plan = plan_for(small_disk / "codes.h5")  # 1.0 MB
    (small_disk / "other").write_bytes(bytes(1_800_000))
    with pytest.raises(DiskFullError, match=r"need 0\.\d+ GB .* 0\.\d+ GB can be had"):
        run_extraction(plan)
    assert [path.name for path in small_disk.iterdir()] == ["other"]
    (small_disk / "other").unlink()
    run_extraction(plan)


def test_once_started_the_space_cannot_be_taken_away(small_disk, plan_for):
    """The space is reserved: another file may fill the disk, and the extraction still ends well."""

    def fill(_step, done, *_rest):
        if done == 5:
            with pytest.raises(OSError, match="No space"), (small_disk / "other").open("wb") as file:
                for _ in range(100):
                    file.write(bytes(100_000))
                    file.flush()

    assert run_extraction(plan_for(small_disk / "codes.h5"), fill).images == 30


def test_no_space_while_writing_is_named_and_can_be_continued(plan_for, tmp_path, monkeypatch):
    """Where space cannot be reserved (some network disks), it can run out at any row."""
    run_extraction(plan_for(tmp_path / "whole.h5"))
    pwrite, written = os.pwrite, 0

    def limited(descriptor, data, offset):
        nonlocal written
        if written > 300_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += len(data)
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", limited)
    with pytest.raises(DiskFullError, match="No space left on device") as caught:
        run_extraction(plan_for(tmp_path / "codes.h5"))
    assert "goes on" in caught.value.remedy
    monkeypatch.setattr(os, "pwrite", pwrite)
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert (codes.state == 0).any()
    plan = plan_for(tmp_path / "codes.h5")
    assert plan.resumes
    run_extraction(plan)
    assert content(tmp_path / "codes.h5") == content(tmp_path / "whole.h5")


def test_short_writes_are_completed(plan_for, tmp_path, monkeypatch):
    run_extraction(plan_for(tmp_path / "whole.h5"))
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, bytes(data[:1000]), offset))
    run_extraction(plan_for(tmp_path / "codes.h5"))
    assert content(tmp_path / "codes.h5") == content(tmp_path / "whole.h5")


def test_rows_are_on_the_disk_before_they_are_called_done(plan_for, tmp_path, monkeypatch):
    """The order that makes a power cut harmless: codes, fdatasync, state."""
    monkeypatch.setattr(rows_module, "SYNC_SECONDS", 0.0)
    events = []
    state = None
    pwrite, fdatasync = os.pwrite, os.fdatasync

    def traced_write(descriptor, data, offset):
        is_state = state is not None and state <= offset < state + 30
        events.append("state" if is_state else "codes")
        return pwrite(descriptor, data, offset)

    def traced_sync(descriptor):
        events.append("sync")
        return fdatasync(descriptor)

    run_extraction(plan_for(tmp_path / "whole.h5"))
    state = layout(tmp_path / "whole.h5").state.offset  # the same in every file of these settings
    monkeypatch.setattr(os, "pwrite", traced_write)
    monkeypatch.setattr(os, "fdatasync", traced_sync)
    run_extraction(plan_for(tmp_path / "codes.h5"))
    assert events.count("state") == 6
    waiting = False  # codes written since the last sync
    for event in events:
        if event == "state":
            assert not waiting
        waiting = event == "codes" or (waiting and event != "sync")
    assert events[-1] == "sync"


def test_work_lost_by_a_kill_is_bounded_in_time_and_bytes(plan_for, tmp_path, monkeypatch):
    syncs, clock = [], itertools.count(step=0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (syncs.append(True), fdatasync(descriptor))[1])
    run_extraction(plan_for(tmp_path / "few.h5"))
    few = len(syncs)
    monkeypatch.setattr(rows_module, "SYNC_BYTES", 1)
    run_extraction(plan_for(tmp_path / "bytes.h5"))
    assert len(syncs) - few == few + 6
    monkeypatch.setattr(rows_module, "SYNC_BYTES", 2**30)
    clock = itertools.count(step=10)
    syncs.clear()
    run_extraction(plan_for(tmp_path / "time.h5"))
    assert len(syncs) == few + 6


def test_a_file_system_that_cannot_reserve_is_not_a_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    for number in (errno.EOPNOTSUPP, errno.EINVAL):

        def refuse(*_arguments, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        reserve(path)


def test_a_folder_that_may_not_be_written_is_a_clear_error(plan_for, small_weights, photos):
    import tempfile

    if os.geteuid() != 0:
        pytest.skip("as root only: another user's folder is needed")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        few = read_catalog(photos).subset(range(3))
        os.seteuid(65534)
        try:
            with pytest.raises(CnnCodesError, match="may not be written"):
                plan_extraction(few, Path(name) / "codes.h5", small_weights)
        finally:
            os.seteuid(0)


@pytest.fixture
def open_elsewhere():
    """``open_elsewhere(path, writes)``: the file as another program has it open, with HDF5's lock."""
    fcntl = pytest.importorskip("fcntl")
    opened = []

    def hold(path, writes):
        opened.append(os.open(path, os.O_RDWR if writes else os.O_RDONLY))
        fcntl.flock(opened[-1], (fcntl.LOCK_EX if writes else fcntl.LOCK_SH) | fcntl.LOCK_NB)

    yield hold
    for descriptor in opened:
        os.close(descriptor)


def test_an_image_is_repaired_while_a_reader_has_the_file_open(
    photo_folder, small_weights, tmp_path, open_elsewhere
):
    folder, path = photo_folder(2, width=30, height=30), tmp_path / "codes.h5"
    whole = (folder / "photo1.jpg").read_bytes()
    for data in (b"broken", whole):
        (folder / "photo1.jpg").write_bytes(data)
        plan = plan_extraction(read_catalog(folder), path, small_weights, layers="pool5")
        pretend(plan)
        run_extraction(plan)
        open_elsewhere(path, writes=False)
    with CodesFile(path) as codes:
        assert codes.state.tolist() == [1, 1]
        assert codes.problems() == {}


def test_a_file_that_another_program_is_writing_is_called_that(plan_for, tmp_path, open_elsewhere):
    run_extraction(plan_for(tmp_path / "codes.h5"))
    open_elsewhere(tmp_path / "codes.h5", writes=True)
    with pytest.raises(CodesFileError, match="another program"):
        CodesFile(tmp_path / "codes.h5")
