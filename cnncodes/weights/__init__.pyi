"""The public names of this room, and where each lives."""

from cnncodes.weights.conversion import convert as convert
from cnncodes.weights.conversion import read_class_names as read_class_names
from cnncodes.weights.conversion import with_class_names as with_class_names
from cnncodes.weights.conversion import with_fit as with_fit
from cnncodes.weights.conversion import with_input as with_input
from cnncodes.weights.preprocessing import CAFFE_PREPROCESSING as CAFFE_PREPROCESSING
from cnncodes.weights.preprocessing import TORCHVISION_PREPROCESSING as TORCHVISION_PREPROCESSING
from cnncodes.weights.preprocessing import Preprocessing as Preprocessing
from cnncodes.weights.published import KnownWeights as KnownWeights
from cnncodes.weights.published import fetch as fetch
from cnncodes.weights.published import list_weights as list_weights
from cnncodes.weights.record import AnyWeights as AnyWeights
from cnncodes.weights.record import Weights as Weights
from cnncodes.weights.record import build_network as build_network
from cnncodes.weights.resolve import WeightsReport as WeightsReport
from cnncodes.weights.resolve import check as check
from cnncodes.weights.resolve import load_weights as load_weights
from cnncodes.weights.safetensors_file import read_arrays as read_arrays
from cnncodes.weights.safetensors_file import read_tensors as read_tensors
from cnncodes.weights.safetensors_file import save_weights as save_weights
from cnncodes.weights.safetensors_file import write_arrays as write_arrays
from cnncodes.weights.safetensors_file import write_tensors as write_tensors
