import pytest

from maskgit.config.sections import TrainConfig
from maskgit.training.launch import check_trackers


def test_a_tracker_that_is_not_there_is_named():
    check_trackers(TrainConfig(trackers=("tensorboard",)))
    with pytest.raises(ValueError, match="train.trackers: nothing: not installed"):
        check_trackers(TrainConfig(trackers=("nothing",)))
