"""The public names of this room, and where each lives."""

from cnncodes.training.callbacks import Callback as Callback
from cnncodes.training.folder import Epoch as Epoch
from cnncodes.training.folder import InterruptedTrainingError as InterruptedTrainingError
from cnncodes.training.folder import Tested as Tested
from cnncodes.training.folder import read_epochs as read_epochs
from cnncodes.training.loop import Training as Training
from cnncodes.training.range_test import RangeTest as RangeTest
from cnncodes.training.run import TrainingResult as TrainingResult
from cnncodes.training.run import finetune as finetune
from cnncodes.training.run import train as train
from cnncodes.training.settings import NetworkSettings as NetworkSettings
from cnncodes.training.settings import TrainingSettings as TrainingSettings
