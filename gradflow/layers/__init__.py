"""The layers, one small file per kind: parameters, forward, backward and their formulas on one screen."""

from gradflow.layers.base import ACTIVATIONS as ACTIVATIONS
from gradflow.layers.base import LAYERS as LAYERS
from gradflow.layers.base import Activation as Activation
from gradflow.layers.base import BufferSpec as BufferSpec
from gradflow.layers.base import Layer as Layer
from gradflow.layers.base import ParameterSpec as ParameterSpec
from gradflow.layers.batch_norm import BatchNorm as BatchNorm
from gradflow.layers.cosine_embedding import CosineEmbedding as CosineEmbedding
from gradflow.layers.dense import Dense as Dense
from gradflow.layers.dropout import Dropout as Dropout
from gradflow.layers.elu import ELU as ELU
from gradflow.layers.embed_columns import EmbedColumns as EmbedColumns
from gradflow.layers.gelu import GELU as GELU
from gradflow.layers.identity import Identity as Identity
from gradflow.layers.increasing import Increasing as Increasing
from gradflow.layers.layer_norm import LayerNorm as LayerNorm
from gradflow.layers.leaky_relu import LeakyReLU as LeakyReLU
from gradflow.layers.members import EachMember as EachMember
from gradflow.layers.members import MeanOfMembers as MeanOfMembers
from gradflow.layers.members import MemberDense as MemberDense
from gradflow.layers.members import MemberScale as MemberScale
from gradflow.layers.mish import Mish as Mish
from gradflow.layers.parametric import Parametric as Parametric
from gradflow.layers.periodic_embedding import PeriodicEmbedding as PeriodicEmbedding
from gradflow.layers.piecewise_embedding import PiecewiseLinearEmbedding as PiecewiseLinearEmbedding
from gradflow.layers.piecewise_embedding import quantile_bins as quantile_bins
from gradflow.layers.relu import ReLU as ReLU
from gradflow.layers.residual import Residual as Residual
from gradflow.layers.scale import Scale as Scale
from gradflow.layers.selu import SELU as SELU
from gradflow.layers.sigmoid import Sigmoid as Sigmoid
from gradflow.layers.silu import SiLU as SiLU
from gradflow.layers.softmax import Softmax as Softmax
from gradflow.layers.softplus import Softplus as Softplus
from gradflow.layers.tanh import Tanh as Tanh

NORMALIZATIONS: dict[str, type[BatchNorm] | type[LayerNorm]] = {"batch": BatchNorm, "layer": LayerNorm}
