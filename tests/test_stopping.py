import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from maskgit.stopping import (
    SIGNALS,
    Stopped,
    check_stop,
    listening,
    raising,
    stop_requested,
    unless_stopped,
)
from tests.conftest import repo

pytestmark = pytest.mark.usefixtures("heard")


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_is_noted_and_found_where_the_work_asks(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with listening():
        assert not stop_requested()
        os.kill(os.getpid(), number)
        assert stop_requested() == number
        with pytest.raises(Stopped, match=name) as stopped:
            check_stop()
    assert stopped.value.signal_number == number
    assert signal.getsignal(number) is before and not stop_requested()


def test_a_signal_ends_what_is_done_unless_stopped():
    done = []
    with listening(), pytest.raises(Stopped):
        for number in unless_stopped(range(9)):
            done.append(number)
            if number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
    assert done == [0, 1, 2]


def test_a_signal_stops_what_does_not_ask():
    with pytest.raises(Stopped), raising():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def test_what_deals_with_errors_does_not_swallow_it():
    """As a reader of images does, that takes any error for a corrupt file."""
    with pytest.raises(Stopped), raising():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            time.sleep(60)


def test_the_second_signal_does_not_end_the_tidying_up():
    tidied = []
    with pytest.raises(Stopped), raising():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            tidied.append(True)
    assert tidied


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_has_no_signals_but_runs():
    done = []

    def work():
        with listening():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


def test_a_process_stops_when_its_launcher_is_killed(tmp_path):
    """accelerate's launcher passes no signal on, and none can when it is killed."""
    child = (
        "import pathlib, sys, time\n"
        "from maskgit.stopping import Stopped, raising\n"
        "try:\n"
        "    with raising():\n"
        "        pathlib.Path(sys.argv[1]).touch()\n"
        "        time.sleep(60)\n"
        "except Stopped as stopped:\n"
        "    pathlib.Path(sys.argv[2]).write_text(str(stopped))\n"
    )
    launcher = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, *sys.argv[1:]])"
    )
    started, ended = tmp_path / "started", tmp_path / "ended"
    environment = {**os.environ, "PYTHONPATH": str(repo()), "ACCELERATE_MIXED_PRECISION": "no"}
    process = subprocess.Popen(
        [sys.executable, "-c", launcher, started, ended], env=environment, cwd=repo()
    )
    deadline = time.monotonic() + 60
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    while not (ended.exists() and ended.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "SIGTERM" in ended.read_text()
