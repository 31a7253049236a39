from .csv import Csv as Csv
from .tensorboard import TensorBoard as TensorBoard
from .wandb import Wandb as Wandb
