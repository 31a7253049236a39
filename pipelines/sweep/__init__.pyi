from .pruning import Median as Median
from .pruning import SuccessiveHalving as SuccessiveHalving
from .start import SweepStart as SweepStart
