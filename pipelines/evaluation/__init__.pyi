from .features import OwnNetwork as OwnNetwork
