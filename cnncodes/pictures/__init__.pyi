"""The public names of this room, and where each lives."""

from cnncodes.pictures.attribution import (
    Attribution as Attribution,
)
from cnncodes.pictures.attribution import (
    attribute as attribute,
)
from cnncodes.pictures.attribution import (
    attribute_all as attribute_all,
)
from cnncodes.pictures.attribution import (
    draw_attribution as draw_attribution,
)
from cnncodes.pictures.attribution import (
    draw_attributions as draw_attributions,
)
from cnncodes.pictures.augmentation import (
    Augmented as Augmented,
)
from cnncodes.pictures.augmentation import (
    augment as augment,
)
from cnncodes.pictures.augmentation import (
    augment_by as augment_by,
)
from cnncodes.pictures.augmentation import (
    draw_augment as draw_augment,
)
from cnncodes.pictures.classifier import (
    Classifier as Classifier,
)
from cnncodes.pictures.classifier import (
    SeenImage as SeenImage,
)
from cnncodes.pictures.classifier import (
    load_classifier as load_classifier,
)
from cnncodes.pictures.classifier import (
    see_image as see_image,
)
from cnncodes.pictures.codes_source import CodesSource as CodesSource
from cnncodes.pictures.codes_source import codes_for as codes_for
from cnncodes.pictures.dead import Firing as Firing
from cnncodes.pictures.dead import count_firing as count_firing
from cnncodes.pictures.dead import draw_dead as draw_dead
from cnncodes.pictures.dense import DenseMap as DenseMap
from cnncodes.pictures.dense import dense_map as dense_map
from cnncodes.pictures.dense import draw_dense as draw_dense
from cnncodes.pictures.drawing import save_figure as save_figure
from cnncodes.pictures.fooling import Fooled as Fooled
from cnncodes.pictures.fooling import draw_fooled as draw_fooled
from cnncodes.pictures.fooling import fool as fool
from cnncodes.pictures.inversion import (
    Inversions as Inversions,
)
from cnncodes.pictures.inversion import (
    draw_inversions as draw_inversions,
)
from cnncodes.pictures.inversion import (
    invert as invert,
)
from cnncodes.pictures.map import (
    CodesMap as CodesMap,
)
from cnncodes.pictures.map import (
    codes_map as codes_map,
)
from cnncodes.pictures.map import (
    draw_map as draw_map,
)
from cnncodes.pictures.map import (
    draw_map_points as draw_map_points,
)
from cnncodes.pictures.map import (
    read_map as read_map,
)
from cnncodes.pictures.neighbours import (
    Neighbours as Neighbours,
)
from cnncodes.pictures.neighbours import (
    draw_neighbours as draw_neighbours,
)
from cnncodes.pictures.neighbours import (
    find_neighbours as find_neighbours,
)
from cnncodes.pictures.occlusion import (
    Occlusion as Occlusion,
)
from cnncodes.pictures.occlusion import (
    draw_occlusion as draw_occlusion,
)
from cnncodes.pictures.occlusion import (
    occlude as occlude,
)
from cnncodes.pictures.results import draw_curves as draw_curves
from cnncodes.pictures.results import draw_rates as draw_rates
from cnncodes.pictures.strongest import (
    Strongest as Strongest,
)
from cnncodes.pictures.strongest import (
    draw_strongest as draw_strongest,
)
from cnncodes.pictures.strongest import (
    find_strongest as find_strongest,
)
from cnncodes.pictures.units import (
    Activations as Activations,
)
from cnncodes.pictures.units import (
    Filters as Filters,
)
from cnncodes.pictures.units import (
    draw_activations as draw_activations,
)
from cnncodes.pictures.units import (
    draw_filters as draw_filters,
)
from cnncodes.pictures.units import (
    read_activations as read_activations,
)
from cnncodes.pictures.units import (
    read_filters as read_filters,
)
