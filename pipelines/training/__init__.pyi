from .muon import MuonOptimization as MuonOptimization
from .optimization import Optimization as Optimization
from .stage_trainer import StageTrainer as StageTrainer
