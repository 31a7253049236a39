from .fit import StageTrainer as StageTrainer
from .optimization import Optimization as Optimization
