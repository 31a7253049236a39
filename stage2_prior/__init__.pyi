from .lightning_module import PriorTraining as PriorTraining
from .prior import NO_LABEL as NO_LABEL
from .prior import Prior as Prior
