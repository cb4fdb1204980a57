import threading

import pytest

from maskgit.serving.worker import Worker


def test_what_is_told_comes_in_order_and_one_work_after_the_other():
    worker, names = Worker(), set()

    def work(tell):
        names.add(threading.current_thread().name)
        for number in range(3):
            tell(number)

    first, second = worker.told(work), worker.told(work)
    assert list(second) == list(first) == [0, 1, 2]
    assert len(names) == 1 and threading.current_thread().name not in names


def test_what_it_raises_is_raised_here_and_the_next_work_is_done():
    worker = Worker()

    def failing(tell):
        tell(1)
        raise ValueError("no")

    found = worker.told(failing)
    assert next(found) == 1
    with pytest.raises(ValueError, match="no"):
        next(found)
    assert list(worker.told(lambda tell: tell(2))) == [2]


def test_work_ends_when_nobody_waits_for_it():
    worker, gate, told = Worker(), threading.Event(), []

    def work(tell):
        for number in range(1000):
            tell(number)
            told.append(number)
            gate.wait()

    found = worker.told(work)
    assert next(found) == 0
    found.close()
    gate.set()
    assert list(worker.told(lambda tell: tell("next"))) == ["next"] and len(told) < 3
